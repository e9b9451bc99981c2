# SPDX-License-Identifier: GPL-3.0-or-later
"""The data disks of a virtual machine: virtio disks, on the kernel of the image.

The witnesses are /proc/mounts, /sys/block and fsck.ext4 of the machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.vm import bare, plain
from tests.vm.bare import Machine

MIB = 1 << 20
WALK = Path(__file__).with_name("disk_walk.py")
ASK = """
def ask(**body):
    try:
        return disks.change(node, layer="test", body={"data": body}).actions
    except errors.DisturbanceError as error:
        return str(error)

def heal():
    return disks.change(node, layer=None, present=False).actions

def drift():
    return disks.converge(node, dry_run=True).actions

def attempt(act):
    try:
        return act()
    except OSError as error:
        return error.errno
"""


pytestmark = pytest.mark.vm("qemu", "image", "ssh")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    base = bare.built()
    assert base is not None
    folder = tmp_path_factory.mktemp("machines")
    with bare.machines(folder, ["n-1"], base, disks=(64 * MIB, 32 * MIB)) as (made,):
        plain.lay_out(made, [made], mounts=("/data", "/logs"))
        assert plain.python(made, "print(json.dumps(disks.converge(node).actions))") == [
            "data: mounted",
            "logs: mounted",
        ]
        yield made


def told(machine: Machine, script: str, *, timeout: float = 400.0) -> Any:
    return plain.python(machine, f"{ASK}\n{script}", timeout=timeout)


def test_blank_disks_were_given_a_file_system_and_nothing_is_left_to_do(machine: Machine) -> None:
    assert told(machine, "print(json.dumps([disks.converge(node).changed, drift()]))") == [
        False,
        [],
    ]

    mounts = [line.split() for line in machine.ssh("cat /proc/mounts").splitlines()]
    assert {words[1]: words[2] for words in mounts if words[1] in ("/data", "/logs")} == {
        "/data": "ext4",
        "/logs": "ext4",
    }


def test_users_of_a_disk_that_is_detached_get_errors_and_it_comes_back_with_what_was_synced(
    machine: Machine,
) -> None:
    found = told(
        machine,
        """
opened = os.open("/data/used", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
os.write(opened, b"synced\\n")
os.fsync(opened)
users = lambda: [
    attempt(lambda: os.write(opened, b"x")),
    attempt(lambda: os.pread(opened, 9, 0)),
    attempt(lambda: os.fsync(opened)),
]
shown = lambda: sorted(Path(each, "serial").read_text() for each in Path("/sys/block").glob("vd*"))
busy = ask(condition="unmounted")
done = ask(condition="detached")
away = [done, ask(condition="detached"), drift(), users(), shown()]
back = [heal(), drift(), users(), Path("/data/used").read_text()[:7], shown()]
print(json.dumps([busy, away, back, os.getpid()]))
""",
    )

    busy, away, back, process = found
    assert f"/data is in use by python3 (pid {process})" in busy
    assert away == [["data: detached"], [], [], [5, 5, 5], ["vda", "vdb", "vdd"]]
    assert back == [["data: mounted"], [], [5, 5, 5], "synced\n", ["vda", "vdb", "vdc", "vdd"]]


def test_a_disk_goes_from_under_a_writer_that_its_throttle_holds_back(machine: Machine) -> None:
    # Kernels as of 6.1 never come back from this if the throttle is not lifted first.
    writer = """
import mmap, os
open("/sys/fs/cgroup/pkgctl.slice/job-w/cgroup.procs", "w").write(str(os.getpid()))
opened, block = os.open("/data/w", os.O_WRONLY | os.O_CREAT | os.O_DIRECT), mmap.mmap(-1, 1 << 16)
while True:
    os.pwrite(opened, block, 0)
"""
    found = told(
        machine,
        f"""
Path("/sys/fs/cgroup/pkgctl.slice/job-w").mkdir(exist_ok=True)
quotas.change(node, layer="slow", limits={{"write_bps": 1 << 20}})
before = Path("/sys/fs/cgroup/pkgctl.slice/io.max").read_text()
writer = subprocess.Popen(["python3", "-c", {writer!r}], stderr=subprocess.DEVNULL)
time.sleep(5)
done = ask(condition="detached")
ended = writer.wait(240)
away = quotas.converge(node, dry_run=True).actions
heal()
Path("/data/w").unlink()
again = quotas.converge(node, dry_run=True).actions
count = len(Path("/sys/fs/cgroup/pkgctl.slice/io.max").read_text().splitlines())
quotas.change(node, layer="slow", present=False)
after = Path("/sys/fs/cgroup/pkgctl.slice/io.max").read_text()
Path("/sys/fs/cgroup/pkgctl.slice/job-w").rmdir()
print(json.dumps([len(before.splitlines()), done, ended, away, again, count, after]))
""",
    )

    assert found == [2, ["data: detached"], 1, [], [], 2, ""]


def test_what_a_disk_holds_is_never_overwritten(machine: Machine) -> None:
    found = told(
        machine,
        """
asked = disks.change(node, layer="away", body={"logs": {"condition": "unmounted"}}).actions
device = os.path.realpath("/dev/disk/by-id/virtio-vdd")
def wipe():
    with open(device, "r+b") as opened:
        for _ in range(32):
            opened.write(bytes(1 << 20))
        os.fsync(opened.fileno())
def put(at, data):
    with open(device, "r+b") as opened:
        opened.seek(at)
        opened.write(data)
def back():
    try:
        return disks.change(node, layer="away", present=False).actions
    except errors.DisturbanceError as error:
        return str(error).replace(device, "DISK")
said = []
for at, data in ((0, b"XFSB"), (20_000_000, b"mine")):
    wipe()
    put(at, data)
    said.append(back())
wipe()
print(json.dumps([asked, said, back(), drift()]))
""",
    )

    asked, said, back, drift = found
    assert asked == ["logs: unmounted"]
    assert said[0].startswith("DISK holds an XFS file system, no ext4, and is left as it is")
    assert said[1].startswith("DISK holds data of a kind that is not known, no ext4")
    assert (back, drift) == (["logs: mounted"], [])


def test_in_whichever_order_layers_come_and_go_and_whoever_is_killed_all_is_as_before(
    machine: Machine,
) -> None:
    seed = int.from_bytes(os.urandom(4), "big")

    found = plain.run_file(machine, WALK.name, WALK.read_text(), seed, 6, 12)

    assert found == {"seed": seed, "wrong": []}
    machine.ssh("umount /data")
    assert "clean" in machine.ssh("fsck.ext4 -n /dev/disk/by-id/virtio-vdc")
    assert told(machine, "print(json.dumps(disks.converge(node).actions))") == ["data: mounted"]


def test_a_disk_that_was_detached_is_so_after_a_power_cut_and_then_comes_back(
    machine: Machine,
) -> None:
    script = 'Path("/data/f").write_text("kept\\n"); os.sync()'
    asked = told(machine, f'{script}\nprint(json.dumps(ask(condition="detached")))')
    assert asked == ["data: detached"]
    machine.pull_the_plug()
    base = bare.built()
    assert base is not None
    machine.start(base)
    machine.wait()
    machine.ssh("mkdir -p /run/pkgctl && mount --bind /var/lib/pkgctl /run/pkgctl")

    assert "virtio-vdc" in machine.ssh("ls /dev/disk/by-id")
    assert told(machine, "print(json.dumps(disks.converge(node).actions))") == [
        "data: detached",
        "logs: mounted",
    ]
    assert "virtio-vdc" not in machine.ssh("udevadm settle; ls /dev/disk/by-id")
    found = told(machine, 'print(json.dumps([heal(), drift(), Path("/data/f").read_text()]))')
    assert found == [["data: mounted"], [], "kept\n"]
