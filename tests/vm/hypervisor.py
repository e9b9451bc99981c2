# SPDX-License-Identifier: GPL-3.0-or-later
"""A libvirt host of its own on this machine: network, mounts and processes apart from all else.

    python -m tests.vm.hypervisor -- virsh list --all

Its libvirtd has private folders and an empty configuration. Everything in it ends with its first
process, which ends with whoever started it, so nothing is left behind by a test that was killed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests import needs

from .bare import make_key

_SBIN = "/usr/sbin:/sbin"
_QEMU_CONF = """\
security_driver = "none"
user = "root"
group = "root"
cgroup_controllers = []
"""
_SSHD_CONF = """\
ListenAddress {address}
HostKey {folder}/host
AuthorizedKeysFile {folder}/authorized_keys
PidFile {folder}/pid
PermitRootLogin prohibit-password
KbdInteractiveAuthentication no
PasswordAuthentication no
UsePAM no
# Above the folder is one that all may write to.
StrictModes no
"""
# Run as the first process of new namespaces; $1 is the host's own folder.
_INSIDE = r"""
set -e
folder=$1
mount --make-rprivate /
cgroups=$(mktemp -d)
mount --rbind /sys/fs/cgroup "$cgroups"
mount -t sysfs sysfs /sys
mount --rbind "$cgroups" /sys/fs/cgroup
umount -l "$cgroups"; rmdir "$cgroups"
ip link set lo up
for place in /run /var/lib /var/cache /var/log /etc; do
    mkdir -p "$folder/${place##*/}" "$place/libvirt"
    mount --bind "$folder/${place##*/}" "$place/libvirt"
done
virtlogd -d -p "$folder/virtlogd.pid"
libvirtd -d -p "$folder/libvirtd.pid"
touch "$folder/ready"
# The shell stays, for the first process has to reap what daemons leave: libvirt waits for the end
# of each QEMU that it tried.
sleep infinity &
wait
"""


@dataclass(frozen=True)
class Hypervisor:
    """A libvirt host.

    Attributes:
        folder: where it keeps everything.
        pid: its first process, seen from outside.
    """

    folder: Path
    pid: int

    @property
    def enter(self) -> list[str]:
        """What runs a command inside."""
        return ["nsenter", "-t", str(self.pid), "-n", "-m", "-p", "--"]

    @property
    def uri(self) -> str:
        """The address of its libvirtd, good inside and from other such hosts."""
        return f"qemu+unix:///system?socket={self.folder}/run/libvirt-sock"

    def run(
        self,
        *command: str | Path,
        environment: Mapping[str, str] | None = None,
        timeout: float = 600.0,
        check: bool = True,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside; what it wrote to both outputs is in the error, if it fails."""
        result = subprocess.run(
            [*self.enter, *map(str, command)],
            env={**os.environ, "PATH": needs.path(), **(environment or {})},
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and result.returncode:
            said = f"{result.stdout}\n{result.stderr}"
            raise AssertionError(f"{command} ended with {result.returncode}:\n{said}")
        return result

    def virsh(self, *arguments: str) -> str:
        """Return what virsh prints."""
        return self.run("virsh", "-q", *arguments, timeout=240.0).stdout.strip()

    def join(self, other: Hypervisor, own: str, others: str, name: str = "underlay") -> None:
        """Cable two hosts to one another; the addresses are such as ``192.0.2.1/24``."""
        ends = (str(self.pid), "type", "veth", "peer", "name", name, "netns", str(other.pid))
        subprocess.run(["ip", "link", "add", name, "netns", *ends], check=True)
        for host, address in ((self, own), (other, others)):
            host.run("ip", "address", "add", address, "dev", name)
            host.run("ip", "link", "set", name, "up")

    @contextlib.contextmanager
    def ssh_server(self, address: str, authorized: str) -> Iterator[str]:
        """Let a key in by SSH while the block runs, and give the line that the host is known by.

        Args:
            address: where the server listens.
            authorized: the public key that it lets in as root.
        """
        folder = self.folder / "ssh"
        folder.mkdir(mode=0o700)
        make_key(folder / "host")
        (folder / "authorized_keys").write_text(authorized)
        (folder / "config").write_text(_SSHD_CONF.format(address=address, folder=folder))
        # A server begins with a folder that the system makes when it starts its own, and keeps out
        # a root whom this machine has locked.
        self.run("mkdir", "-p", "/run/sshd")
        (folder / "shadow").write_text("root:*:20000:0:99999:7:::\n")
        self.run("mount", "--bind", folder / "shadow", "/etc/shadow")
        server = shutil.which("sshd", path=needs.path())
        assert server is not None, "sshd is missing"
        self.run(server, "-f", folder / "config", "-E", folder / "log")
        pid = _await(folder / "pid")
        try:
            yield f"{address} {(folder / 'host.pub').read_text()}"
        finally:
            self.run("kill", pid)

    def move_home(self, home: Path) -> None:
        """Let root have another home: SSH asks the list of users for it, and not $HOME."""
        users = self.folder / "passwd"
        listed = Path("/etc/passwd").read_text()
        users.write_text(re.sub(r"(?m)^(root(?::[^:]*){4}):[^:]*", rf"\1:{home}", listed))
        self.run("mount", "--bind", users, "/etc/passwd")


def _await(path: Path, patience: float = 240.0) -> str:
    """Return what a file says, once it says something."""
    deadline = time.monotonic() + patience
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, f"{path} does not come"
        time.sleep(0.05)
    return path.read_text().strip()


@contextlib.contextmanager
def hypervisor(folder: Path | None = None) -> Iterator[Hypervisor]:
    """Have a libvirt host while the block runs; all of it is gone afterwards."""
    with contextlib.ExitStack() as stack:
        if folder is None:
            made = stack.enter_context(tempfile.TemporaryDirectory(prefix="pkgctl-host-"))
            folder = Path(made)
        _configure(folder)
        holder = _start(folder)
        stack.callback(_end, holder)
        yield Hypervisor(folder, _first_process(holder, folder))


def _configure(folder: Path) -> None:
    (folder / "etc").mkdir(parents=True)
    (folder / "etc" / "qemu.conf").write_text(_QEMU_CONF)
    (folder / "lib").mkdir()
    for name in ("qemu", "images", "boot", "dnsmasq", "network"):
        (folder / "lib" / name).mkdir()


def _start(folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:{_SBIN}"}
    alone = ["unshare", "-n", "-m", "-p", "-f", "--mount-proc", "--kill-child=SIGKILL"]
    # The shell asks to be killed with its parent, for --kill-child only covers unshare's end.
    with (folder / "host.log").open("wb") as log:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *alone, "bash", "-c", _INSIDE, "host", str(folder)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def _first_process(holder: subprocess.Popen[bytes], folder: Path, patience: float = 240.0) -> int:
    deadline = time.monotonic() + patience
    sockets = [folder / "run" / "libvirt-sock", folder / "ready"]
    while not all(place.exists() for place in sockets):
        if holder.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"no libvirt host: {(folder / 'host.log').read_text()}")
        time.sleep(0.05)
    children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
    return int(children[0])


def _end(holder: subprocess.Popen[bytes]) -> None:
    holder.kill()
    holder.wait()


def main() -> int:
    """Run a command inside a fresh host."""
    command = sys.argv[1:]
    if command[:1] == ["--"]:
        command = command[1:]
    if lacking := needs.lacking("libvirt", "qemu"):
        print(lacking, file=sys.stderr)
        return 3
    with hypervisor() as host:
        environment = {**os.environ, "LIBVIRT_DEFAULT_URI": "qemu:///system"}
        inside = subprocess.run([*host.enter, *command], env=environment, check=False)
        return inside.returncode


if __name__ == "__main__":
    sys.exit(main())
