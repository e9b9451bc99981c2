# SPDX-License-Identifier: GPL-3.0-or-later
"""The base image: really built, booted by QEMU, and stopped by its power button."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pkgctl.image import Image, find, store
from pkgctl.image.recipe import read

from .bare import free_port, make_key, write_seed

pytestmark = pytest.mark.vm("image", "qemu", "ssh")


PATIENCE = 600.0
CARD = "52:54:00:00:00:01"
# What the links, the disks and the delay line of nodes ask the kernel for.
MODULES = (
    *("sch_netem", "sch_htb", "nf_tables", "nfnetlink_queue", "nft_queue", "xt_NFQUEUE"),
    *("nft_compat", "veth", "dummy", "vxlan", "br_netfilter", "overlay", "loop", "ext4"),
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(place))
        yield place


def pkgctl(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pkgctl", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def image(cache: Path) -> Image:
    """Build it, after a first builder that is killed at its work."""
    first = pkgctl("image", "build")
    assert first.stderr is not None
    first.stderr.readline()
    time.sleep(2)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert store.built() == []
    second, third = pkgctl("image", "build"), pkgctl("image", "build")
    printed = {second.communicate()[0], third.communicate()[0]}
    assert printed == {f"{read().fingerprint()}\n"}
    assert (second.returncode, third.returncode) == (0, 0)
    return find()


class Guest:
    """A machine that boots the image from a disk of its own."""

    def __init__(self, folder: Path, image: Image) -> None:
        self.folder, self.image, self.port = folder, image, free_port()
        make_key(folder / "key")
        make_key(folder / "host")
        overlay = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", image.format]
        disk = str(folder / "disk.qcow2")
        subprocess.run([*overlay, "-b", str(image.disk), disk, "3G"], check=True)

    def seed(self, name: str) -> None:
        host = (self.folder / "host.pub").read_text()
        (self.folder / "known").write_text(f"{name} {host}")
        self.name = name
        user = {
            "hostname": name,
            "ssh_keys": {
                "ed25519_private": (self.folder / "host").read_text(),
                "ed25519_public": host,
            },
            "ssh_authorized_keys": [(self.folder / "key.pub").read_text()],
        }
        card = {
            "match": {"macaddress": CARD},
            "set-name": "mgmt",
            "addresses": ["10.0.2.15/24", "fd77:7067::1/64"],
            "routes": [{"to": "default", "via": "10.0.2.2"}],
        }
        parts: dict[str, Any] = {
            "user-data": user,
            "meta-data": {"instance-id": f"id-{name}", "local-hostname": name},
            "network-config": {"version": 2, "ethernets": {"mgmt": card}},
        }
        write_seed(self.folder / "seed.iso", {key: json.dumps(each) for key, each in parts.items()})

    @contextmanager
    def on(self) -> Iterator[subprocess.Popen[bytes]]:
        assert self.image.kernel and self.image.initrd
        drives = [f"file={self.folder / 'disk.qcow2'},cache=unsafe"]
        drives += [f"file={self.folder / 'seed.iso'},format=raw,readonly=on"]
        network = f"user,id=m,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:22"
        process = subprocess.Popen(
            [
                *("qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "512"),
                *("-nodefaults", "-display", "none", "-serial", f"file:{self.console}"),
                *("-monitor", f"unix:{self.folder / 'monitor'},server=on,wait=off"),
                *("-kernel", str(self.image.kernel), "-initrd", str(self.image.initrd)),
                *("-append", " ".join(self.image.cmdline)),
                *(word for drive in drives for word in ("-drive", f"if=virtio,{drive}")),
                *("-netdev", network, "-device", f"virtio-net-pci,netdev=m,mac={CARD}"),
            ]
        )
        try:
            self.wait(process)
            yield process
        finally:
            process.kill()
            process.wait()

    @property
    def console(self) -> Path:
        return self.folder / "console.log"

    def wait(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + PATIENCE
        while self._ssh("true").returncode != 0:
            assert process.poll() is None, "QEMU has ended"
            assert time.monotonic() < deadline, self.console.read_text()[-2000:]
            time.sleep(0.5)

    def run(self, script: str) -> str:
        done = self._ssh(script)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def _ssh(self, script: str) -> subprocess.CompletedProcess[str]:
        options = ["BatchMode=yes", "StrictHostKeyChecking=yes", "ConnectTimeout=30"]
        options += [f"UserKnownHostsFile={self.folder / 'known'}", f"HostKeyAlias={self.name}"]
        words = [word for option in options for word in ("-o", option)]
        target = ["-i", str(self.folder / "key"), "-p", str(self.port), "root@127.0.0.1"]
        return subprocess.run(["ssh", *words, *target, script], capture_output=True, text=True)

    def press_power(self) -> None:
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(self.folder / "monitor"))
            for command in (b"", b"system_powerdown\n"):
                monitor.sendall(command)
                heard = b""
                while not heard.rstrip().endswith(b"(qemu)"):
                    heard += monitor.recv(4096)


def test_a_killed_build_leaves_nothing_and_two_at_once_build_one(image: Image) -> None:
    assert [each.name for each in store.shelf().iterdir() if each.name[0] != "."] == [
        image.fingerprint
    ]
    assert list(store.shelf().glob(".build-*")) == []
    store.verify(store.select(image.fingerprint))


def test_what_is_built_already_is_not_built_again(image: Image) -> None:
    before = image.disk.stat().st_mtime_ns
    again = pkgctl("image", "build")

    assert again.communicate() == (f"{image.fingerprint}\n", "")
    assert image.disk.stat().st_mtime_ns == before


def test_every_file_is_for_every_reader_and_the_manifest_knows_the_packages(image: Image) -> None:
    manifest = store.select(image.fingerprint).manifest

    assert {oct(path.stat().st_mode & 0o777) for path in image.disk.parent.iterdir()} == {"0o644"}
    assert set(read().packages) <= set(manifest["packages"])
    assert manifest["kernel"].endswith("-cloud-amd64")


def test_a_guest_is_what_its_seed_says_each_time_it_boots(image: Image, tmp_path: Path) -> None:
    guest = Guest(tmp_path, image)
    guest.seed("one")
    with guest.on() as process:
        assert guest.run("hostname") == "one"
        assert guest.run("stat -c %a /etc/ssh/ssh_host_ed25519_key /root/.ssh") == "600\n700"
        addresses = json.loads(guest.run("ip -json address show dev mgmt"))[0]["addr_info"]
        held = {each["local"] for each in addresses if each["scope"] == "global"}
        assert held == {"10.0.2.15", "fd77:7067::1"}
        assert "via 10.0.2.2 dev mgmt" in guest.run("ip route show default")
        assert guest.run("cat /proc/sys/net/ipv6/conf/mgmt/accept_ra") == "0"
        # The disk of 3 GiB is larger than the image's.
        assert int(guest.run("stat -f -c '%b*%S' /").partition("*")[0]) * 4096 > 2.8 * 2**30
        assert guest.run(f"modprobe -a {' '.join(MODULES)}; cat /proc/filesystems").count("ext4")
        assert guest.run("stat -f -c %T /sys/fs/cgroup") == "cgroup2fs"
        assert "memory" in guest.run("cat /sys/fs/cgroup/cgroup.controllers").split()
        assert guest.run("systemctl --failed --plain --no-legend") == ""
        assert guest.run("ls /etc/ssh/ssh_host_* | wc -l") == "2"
        identity = guest.run("cat /etc/machine-id")
        guest.run("rm /etc/hostname; echo kept > /var/lib/kept; sync")
        guest.press_power()
        assert process.wait(PATIENCE) == 0
    assert "Power down" in guest.console.read_text()

    # The same seed again: only the network, which no disk keeps.
    with guest.on() as process:
        assert guest.run("cat /etc/hostname 2>&1 || true").count("No such file")
        assert guest.run("cat /etc/machine-id /var/lib/kept").split() == [identity, "kept"]
        process.kill()

    # Another seed, after a loss of power.
    guest.seed("two")
    with guest.on():
        assert guest.run("hostname; cat /etc/hostname").split() == ["two", "two"]
        assert guest.run("cat /var/lib/kept") == "kept"


def test_what_the_guest_refuses(image: Image, tmp_path: Path) -> None:
    guest = Guest(tmp_path, image)
    guest.seed("one")
    with guest.on():
        options = guest.run("sshd -T")
        assert "passwordauthentication no" in options and "usedns no" in options
        assert "permitrootlogin without-password" in options
        make_key(tmp_path / "stranger")
        (tmp_path / "stranger").replace(tmp_path / "key")
        assert "Permission denied (publickey)" in guest._ssh("true").stderr
