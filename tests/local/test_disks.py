# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a disk, of its data and of those who use it; healing leaves no trace.

The witnesses are the kernel's list of mounts, losetup, df and fsck.ext4.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import signal
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pkgctl import topology
from pkgctl.local import testbed
from pkgctl.local.agent import AgentClient
from pkgctl.local.paths import Paths
from pkgctl.nodeside import change, disks, errors, layers, quotas, syscalls

from .test_capacity import group, kernel, limit, process, python

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which("losetup"), reason="needs losetup, an independent witness"),
]
MIB = 1 << 20
NODE = "n-1"
SIZE = 32 * MIB
RESERVE = "/data/.pkgctl-reserve"


@pytest.fixture
def lab(place: Paths, tmp_path: Path) -> Paths:
    """One node with two disks."""
    path = tmp_path / "disks.yaml"
    path.write_text(
        "name: disks\nsites: {a: {access: lan}}\n"
        "kinds: {n: {cpu: 0.5, memory: 128Mi, disks: {data: {size: 32Mi, mount: /data},"
        " logs: {size: 16Mi, mount: /logs}}}}\n"
        "nodes: [{name: n-1, site: a, kind: n}]\n"
    )
    testbed.up(topology.load(str(path)), place)
    return place


def ask(
    place: Paths, layer: str = "test", *, dry_run: bool = False, **data: object
) -> change.Change:
    """Set a layer of the disk data."""
    with testbed.inside(place, NODE) as here:
        return disks.change(here, layer=layer, body={"data": data}, dry_run=dry_run)


def heal(place: Paths, layer: str | None = "test") -> change.Change:
    with testbed.inside(place, NODE) as here:
        return disks.change(here, layer=layer, present=False)


def drift(place: Paths) -> list[str]:
    with testbed.inside(place, NODE) as here:
        return disks.converge(here, dry_run=True).actions


def mounts(place: Paths, folder: str = "/data") -> list[list[str]]:
    """Return device, own options, type and common options of what is mounted in a folder."""
    with testbed.inside(place, NODE):
        lines = Path("/proc/thread-self/mountinfo").read_text().splitlines()
    split = [line.split() for line in lines]
    found = [words for words in split if words[4] == folder]
    return [[words[2], words[5], *words[words.index("-") + 1 :][0:3:2]] for words in found]


def without_device(found: list[list[str]]) -> list[list[str]]:
    return [words[1:] for words in found]


def image(place: Paths, name: str = "data") -> Path:
    return place.disks(NODE) / f"{name}.img"


def loops(place: Paths, name: str = "data") -> list[str]:
    """Return the loop devices that have an image and are not cut off from it."""
    listed = ["losetup", "--noheadings", "-O", "NAME,SIZELIMIT", "-j", str(image(place, name))]
    done = subprocess.run(listed, capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines()]
    return [device for device, limit in rows if limit == "0"]


def fsck(place: Paths) -> subprocess.CompletedProcess[str]:
    """Check the file system of the disk, which nobody may have mounted."""
    assert loops(place) == []
    tool = shutil.which("fsck.ext4") or "/usr/sbin/fsck.ext4"
    words = [tool, "-fn", str(image(place))]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def write(place: Paths, file: str, text: str, *, synced: bool = True) -> None:
    with testbed.inside(place, NODE), open(file, "w") as opened:  # noqa: PTH123
        opened.write(text)
        opened.flush()
        if synced:
            os.fsync(opened.fileno())


def read(place: Paths, file: str) -> str:
    with testbed.inside(place, NODE):
        return Path(file).read_text()


def df(place: Paths) -> tuple[int, int, int]:
    """Return the bytes in use and free of the disk, and the share in percent, as df has it."""
    with testbed.inside(place, NODE):
        listed = ["df", "--block-size=1", "--output=used,avail,pcent", "/data"]
        done = subprocess.run(listed, capture_output=True, text=True, check=True)
    used, free, share = done.stdout.splitlines()[1].replace("%", "").split()
    return int(used), int(free), int(share)


class User:
    """Has a file of the disk open for reading and writing, from within the node."""

    def __init__(self, place: Paths, file: str = "/data/used", flags: int = os.O_RDWR) -> None:
        with testbed.inside(place, NODE):
            self.fd = os.open(file, flags | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> User:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def write(self, text: bytes) -> int | str:
        return self._try(lambda: os.write(self.fd, text))

    def sync(self) -> object:
        return self._try(lambda: os.fsync(self.fd))

    def read(self) -> object:
        return self._try(lambda: os.pread(self.fd, 100, 0))

    @staticmethod
    def _try(call):  # type: ignore[no-untyped-def]
        try:
            return call()
        except OSError as error:
            return errno.errorcode[error.errno or 0]


def test_a_disk_goes_and_comes_back_with_its_data(lab: Paths) -> None:
    write(lab, "/data/file", "kept\n", synced=False)
    before = mounts(lab)

    gone = ask(lab, condition="unmounted")

    assert (gone.changed, gone.actions) == (True, ["data: unmounted"])
    assert (gone.before, gone.after) == (
        "data: mounted\nlogs: mounted\n",
        "data: unmounted\nlogs: mounted\n",
    )
    assert (mounts(lab), loops(lab)) == ([], [])
    assert fsck(lab).returncode == 0
    heal(lab)
    assert read(lab, "/data/file") == "kept\n"
    assert without_device(mounts(lab)) == without_device(before)


def test_a_read_only_disk_keeps_its_data_and_takes_no_more(lab: Paths) -> None:
    write(lab, "/data/file", "kept\n")

    ask(lab, condition="readonly")

    assert [words[1].split(",")[0] for words in mounts(lab)] == ["ro"]
    with pytest.raises(OSError, match="Read-only file system"):
        write(lab, "/data/file", "no\n")
    assert read(lab, "/data/file") == "kept\n"
    heal(lab)
    write(lab, "/data/file", "again\n")


def test_the_harshest_layer_of_a_disk_holds(lab: Paths) -> None:
    ask(lab, "one", condition="readonly")
    ask(lab, "two", condition="detached")
    ask(lab, "three", condition="unmounted")
    assert mounts(lab) == []
    heal(lab, "two")
    assert mounts(lab) == []

    heal(lab, "three")

    assert [words[1].split(",")[0] for words in mounts(lab)] == ["ro"]


def test_the_same_again_changes_nothing(lab: Paths) -> None:
    asked = [
        {"condition": condition, "how": how} for condition in disks.CONDITIONS for how in disks.HOWS
    ]
    for one in [*asked, {"fill": 0.5}, {"size": 16 * MIB}]:
        ask(lab, **one)

        again = ask(lab, **one)

        assert (again.changed, again.actions, drift(lab)) == (False, [], []), one
        assert again.before == again.after, one


@pytest.mark.parametrize(
    "asked", [{"condition": "unmounted"}, {"condition": "detached"}, {"fill": 0.5}], ids=str
)
def test_a_prediction_is_kept_and_changes_nothing(lab: Paths, asked: dict[str, object]) -> None:
    before = mounts(lab), df(lab)

    foreseen = ask(lab, dry_run=True, **asked)

    assert (mounts(lab), df(lab)) == before
    assert layers.load(lab.node(NODE) / disks.STORE) == {"base": {}}
    done = ask(lab, **asked)
    assert (foreseen.changed, foreseen.actions) == (done.changed, done.actions) != (True, [])
    assert (foreseen.before, foreseen.after) == (done.before, done.after)


@pytest.mark.parametrize("condition", ["unmounted", "readonly"])
def test_a_busy_disk_names_who_uses_it_and_stays_as_it_is(lab: Paths, condition: str) -> None:
    before = mounts(lab), mounts(lab, "/logs")

    with User(lab):
        with pytest.raises(errors.DisturbanceError) as refused, testbed.inside(lab, NODE) as here:
            body = {"logs": {"condition": "unmounted"}, "data": {"condition": condition}}
            disks.change(here, layer="test", body=body)

        assert f"/data is in use by {Path('/proc/self/comm').read_text().strip()}" in str(
            refused.value
        )
        assert f"(pid {os.getpid()}" in str(refused.value)
        assert without_device(mounts(lab)) == without_device(before[0])
        assert without_device(mounts(lab, "/logs")) == without_device(before[1])
        assert layers.load(lab.node(NODE) / disks.STORE) == {"base": {}}
    assert ask(lab, condition=condition).changed


def test_a_dry_run_says_that_a_disk_is_in_use_and_leaves_it_where_it_is(lab: Paths) -> None:
    before = mounts(lab)

    with User(lab), pytest.raises(errors.DisturbanceError, match="/data is in use by"):
        ask(lab, condition="unmounted", dry_run=True)
    for _ in range(3):
        assert ask(lab, condition="unmounted", dry_run=True).changed

    assert mounts(lab) == before


def test_a_busy_disk_keeps_no_other_from_what_is_stored(lab: Paths) -> None:
    gone = {"condition": "unmounted"}
    layers.save(lab.node(NODE) / disks.STORE, {"base": {}, "test": {"data": gone, "logs": gone}})

    with (
        User(lab),
        testbed.inside(lab, NODE) as here,
        pytest.raises(errors.DisturbanceError, match="/data is in use by"),
    ):
        disks.converge(here)

    assert mounts(lab, "/logs") == []
    assert drift(lab) == ["data: unmounted"]


def test_a_job_that_uses_a_disk_is_named(lab: Paths) -> None:
    hold = "import time; file = open('/data/held', 'w'); open('/tmp/up', 'w'); time.sleep(60)"
    with AgentClient(lab) as agent:
        agent.call("job-start", id="web", node=NODE, argv=python(hold), ready="exec")
        with testbed.inside(lab, NODE):
            wait_until(Path("/tmp/up").exists)

        with pytest.raises(errors.DisturbanceError, match=r"\(pid \d+, job web on n-1\)"):
            ask(lab, condition="unmounted")


def test_a_session_whose_program_is_on_a_disk_is_named(lab: Paths) -> None:
    # No file of the disk is open: the program is mapped, and nothing more.
    with testbed.inside(lab, NODE):
        shutil.copy(shutil.which("sleep") or "/bin/sleep", "/data/sleep")
    with process(lab, "sh", "-c", "echo ready; exec /data/sleep 60", node=NODE) as running:
        program = Path(f"/proc/{running.pid}/exe")
        wait_until(lambda: program.readlink() == Path("/data/sleep"))

        with pytest.raises(
            errors.DisturbanceError, match=r"by sleep \(pid \d+, a session on n-1\);"
        ):
            ask(lab, condition="unmounted")


def wait_until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_lazily_unmounted_disk_stays_with_its_users_and_is_one_with_its_next_mount(
    lab: Paths,
) -> None:
    with User(lab) as user:
        ask(lab, condition="unmounted", how="lazy")

        assert mounts(lab) == []
        held = loops(lab)
        assert len(held) == 1
        assert user.write(b"behind the back\n") == 16
        heal(lab)
        assert loops(lab) == held
        assert read(lab, "/data/used") == "behind the back\n"
        assert user.write(b"and on\n") == 7
        assert read(lab, "/data/used") == "behind the back\nand on\n"
    ask(lab, condition="unmounted")
    assert fsck(lab).returncode == 0


def test_a_lazily_read_only_disk_is_written_by_its_users_alone(lab: Paths) -> None:
    with User(lab) as user:
        ask(lab, condition="readonly", how="lazy")

        assert user.write(b"behind the back\n") == 16
        with pytest.raises(OSError, match="Read-only file system"):
            write(lab, "/data/new", "no\n")
        assert drift(lab) == []
        heal(lab)
        write(lab, "/data/new", "yes\n")
        assert len(loops(lab)) == 1
    ask(lab, condition="unmounted")
    assert fsck(lab).returncode == 0


@pytest.mark.parametrize(
    "asked",
    [
        {"condition": "detached"},
        {"condition": "unmounted", "how": "force"},
        {"condition": "readonly", "how": "force"},
    ],
    ids=str,
)
def test_a_disk_that_is_pulled_fails_its_users_and_keeps_what_was_synced(
    lab: Paths, asked: dict[str, object]
) -> None:
    write(lab, "/data/file", "kept" * 5000)
    before = mounts(lab)
    with User(lab) as user:
        user.write(b"synced\n")
        user.sync()
        user.write(b"not synced\n")

        ask(lab, **asked)

        assert [user.write(b"x"), user.read(), user.sync()] == ["EIO"] * 3
        heal(lab)
        assert read(lab, "/data/file") == "kept" * 5000
        assert read(lab, "/data/used").startswith("synced\n")
        write(lab, "/data/later", "new\n" * 5000)
        assert [user.write(b"x"), user.read(), user.sync()] == ["EIO"] * 3
    # The last user of the old file system went after the new one had been written.
    assert (read(lab, "/data/later"), read(lab, "/data/file")) == ("new\n" * 5000, "kept" * 5000)
    assert without_device(mounts(lab)) == without_device(before)
    ask(lab, condition="unmounted")
    done = fsck(lab)
    assert done.returncode == 0, done.stdout


def test_a_disk_that_nobody_uses_is_detached_and_its_device_is_gone(lab: Paths) -> None:
    ask(lab, condition="detached")

    assert (mounts(lab), loops(lab)) == ([], [])
    assert (
        str(image(lab))
        not in subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout
    )


def test_detaching_reaches_the_users_of_a_lazily_unmounted_disk(lab: Paths) -> None:
    with User(lab) as user:
        ask(lab, "soft", condition="unmounted", how="lazy")
        assert user.write(b"x") == 1

        done = ask(lab, "hard", condition="detached")

        assert done.actions == ["data: detached"]
        assert user.write(b"x") == "EIO"
        assert (mounts(lab), loops(lab), drift(lab)) == ([], [], [])
        heal(lab, None)
        write(lab, "/data/new", "yes\n")


def test_a_disk_that_was_left_half_pulled_is_taken_up_again(lab: Paths) -> None:
    for cut in (False, True):
        with testbed.inside(lab, NODE):
            write_to = Path("/data/file")
            write_to.write_text("kept\n")
            os.sync()
            device = f"/dev/loop{os.minor(Path('/data').stat().st_dev)}"
            syscalls.shut_down("/data")
            if cut:
                syscalls.cut_loop(device)

        with testbed.inside(lab, NODE) as here:
            done = disks.converge(here)

        assert done.actions == ["data: mounted"]
        assert done.before.startswith("data: dead\n")
        assert read(lab, "/data/file") == "kept\n"
        write(lab, "/data/file", "again\n")


def test_a_foreign_mount_is_named_and_left_alone(lab: Paths) -> None:
    with testbed.inside(lab, NODE):
        syscalls.mount("guest", "/data", "tmpfs", 0, "size=1m")
    before = mounts(lab)

    with pytest.raises(errors.DisturbanceError, match=r"tmpfs \(guest\) is mounted on /data"):
        ask(lab, condition="unmounted")
    with pytest.raises(errors.DisturbanceError, match="not ours to touch"):
        ask(lab, fill=0.5)

    assert mounts(lab) == before
    assert drift(lab) == ["data: tmpfs (guest) is in the way"]
    assert layers.load(lab.node(NODE) / disks.STORE) == {"base": {}}
    with testbed.inside(lab, NODE) as here:
        body = {"logs": {"condition": "unmounted"}}
        assert disks.change(here, layer="other", body=body).actions[-1] == "logs: unmounted"
        syscalls.unmount("/data")
    assert drift(lab) == []


def test_a_mount_of_our_own_image_elsewhere_is_not_taken_for_the_disk(lab: Paths) -> None:
    with testbed.inside(lab, NODE) as here:
        syscalls.unmount("/data")
        syscalls.mount("/logs", "/data", None, syscalls.MS_BIND)
        with pytest.raises(
            errors.DisturbanceError, match=r"ext4 \(/dev/loop\d+\) is mounted on /data"
        ):
            disks.converge(here)
        syscalls.unmount("/data")
        assert disks.converge(here).actions == ["data: mounted"]


def test_a_disk_is_filled_to_a_level_and_emptied_again(lab: Paths) -> None:
    write(lab, "/data/file", "x" * MIB)
    before = df(lab)

    done = ask(lab, fill=0.9)

    used, free, share = df(lab)
    assert share == 90
    assert used / (used + free) == pytest.approx(0.9, abs=0.005)
    assert done.after.startswith("data: mounted, ")
    assert done.actions[0].endswith("held back")
    heal(lab)
    assert df(lab) == before
    assert drift(lab) == []


def test_a_full_disk_takes_no_more(lab: Paths) -> None:
    ask(lab, fill=1.0)

    assert df(lab)[2] == 100
    with User(lab) as user:
        user.write(b"x" * MIB)
        assert user.write(b"x") == "ENOSPC"
    assert ask(lab, fill=1.0).changed is False
    assert drift(lab) == []


def test_a_level_is_worked_out_once(lab: Paths) -> None:
    ask(lab, fill=0.5)
    held = df(lab)

    write(lab, "/data/file", "x" * MIB)

    assert ask(lab, fill=0.5).changed is False
    assert df(lab)[0] == pytest.approx(held[0] + MIB, abs=64 << 10)
    assert ask(lab, fill=0.6).changed
    assert df(lab)[2] == 60


def test_a_disk_is_as_small_as_asked(lab: Paths) -> None:
    write(lab, "/data/file", "x" * MIB)
    used, free, _ = df(lab)

    ask(lab, size=8 * MIB)

    assert df(lab)[1] == pytest.approx(8 * MIB - used, abs=64 << 10)
    heal(lab)
    assert df(lab)[:2] == (used, free)


def test_a_disk_smaller_than_what_is_on_it_is_full_until_there_is_room(lab: Paths) -> None:
    write(lab, "/data/file", "x" * 6 * MIB)

    ask(lab, size=4 * MIB)

    assert df(lab)[1] < 64 << 10
    assert drift(lab) == []
    heal(lab)
    assert df(lab)[1] > 16 * MIB


def test_of_several_levels_the_fullest_holds(lab: Paths) -> None:
    before = df(lab)
    ask(lab, "one", fill=0.5)
    ask(lab, "two", fill=0.8)
    ask(lab, "three", size=30 * MIB)
    assert df(lab)[2] == 80

    heal(lab, "two")
    assert df(lab)[2] == 50
    heal(lab, None)
    assert df(lab) == before


@pytest.mark.parametrize("condition", ["unmounted", "readonly", "detached"])
def test_a_level_waits_for_a_disk_that_cannot_be_written(lab: Paths, condition: str) -> None:
    before = df(lab)
    ask(lab, "away", condition=condition)

    asked = ask(lab, "full", fill=0.5)
    assert (asked.changed, asked.actions, drift(lab)) == (True, [], [])
    heal(lab, "away")
    assert df(lab)[2] == 50
    assert ask(lab, "full", fill=0.5).changed is False

    ask(lab, "away", condition=condition)
    assert heal(lab, "full").changed
    heal(lab, "away")
    assert df(lab) == before


def test_what_is_held_back_is_put_right_if_somebody_takes_it(lab: Paths) -> None:
    ask(lab, fill=0.5)
    with testbed.inside(lab, NODE) as here:
        Path(RESERVE).unlink()

        drifted = disks.converge(here, dry_run=True)
        done = disks.converge(here)

    assert drifted.actions == done.actions != []
    assert df(lab)[2] == 50


def off(place: Paths, health: str | None) -> None:
    """Let the node's store say how it is, as the module for health does."""
    body = {"base": {}} | ({"test": {"health": health}} if health else {})
    layers.save(place.node(NODE) / "health.json", body)
    with testbed.inside(place, NODE) as here:
        disks.converge(here)


@pytest.mark.parametrize("health", ["stopped", "crashed"])
def test_a_node_that_is_off_has_no_disk(lab: Paths, health: str) -> None:
    before = mounts(lab)
    write(lab, "/data/file", "kept\n")
    write(lab, "/data/late", "in memory\n", synced=False)

    off(lab, health)

    assert (mounts(lab), mounts(lab, "/logs"), loops(lab), drift(lab)) == ([], [], [], [])
    asked = ask(lab, condition="readonly")
    assert (asked.changed, asked.actions) == (True, [])
    off(lab, None)
    assert [words[1].split(",")[0] for words in mounts(lab)] == ["ro"]
    heal(lab)
    assert without_device(mounts(lab)) == without_device(before)
    assert read(lab, "/data/file") == "kept\n"
    # An orderly stop syncs; a power cut does not.
    if health == "stopped":
        assert read(lab, "/data/late") == "in memory\n"


def test_a_paused_node_keeps_its_disks(lab: Paths) -> None:
    before = mounts(lab)

    off(lab, "paused")

    assert mounts(lab) == before


def throttles(place: Paths) -> dict[str, str]:
    return {
        file: text
        for file, text in kernel(place, NODE).items()
        if "throttle" in file or "io.max" in file
    }


@pytest.mark.parametrize("condition", ["unmounted", "detached"])
def test_all_layers_throttles_are_on_the_new_device_and_off_the_old(
    lab: Paths, condition: str
) -> None:
    before = kernel(lab, NODE)
    limit(lab, "one", NODE, read_bps=2 * MIB, write_iops=900)
    limit(lab, "two", NODE, read_bps=MIB)
    with User(lab):
        ask(lab, condition=condition, how="lazy")
        heal(lab)

    (device, *_) = mounts(lab)[0]
    with testbed.inside(lab, NODE) as here:
        own = quotas.devices(here)
        assert device in own
        assert quotas.read(group(lab, NODE), own).throttles == {
            (each, kind): value
            for each in own
            for kind, value in (("read_bps", MIB), ("write_iops", 900))
        }
        assert quotas.converge(here, dry_run=True).actions == []
        assert quotas.change(here, layer=None, present=False).changed
    assert kernel(lab, NODE) == before


def test_throttles_healed_while_a_disk_is_away_leave_nothing(lab: Paths) -> None:
    before = kernel(lab, NODE)
    limit(lab, "slow", NODE, read_iops=50, write_iops=50)
    assert throttles(lab) != {file: before[file] for file in throttles(lab)}
    ask(lab, condition="unmounted")
    with testbed.inside(lab, NODE) as here:
        quotas.change(here, layer="slow", present=False)
    heal(lab)

    assert kernel(lab, NODE) == before


def test_a_throttle_set_while_a_lazily_unmounted_disk_is_in_use_binds_its_users(lab: Paths) -> None:
    (device, *_) = mounts(lab)[0]
    with User(lab):
        ask(lab, condition="unmounted", how="lazy")

        limit(lab, "slow", NODE, write_iops=50)

        with testbed.inside(lab, NODE) as here:
            assert (device, "write_iops") in quotas.read(group(lab, NODE), []).throttles
            assert quotas.converge(here, dry_run=True).actions == []


def test_what_drifted_is_told_and_put_right(lab: Paths) -> None:
    limit(lab, "slow", NODE, read_iops=50)
    before = kernel(lab, NODE)
    with testbed.inside(lab, NODE) as here:
        group(lab, NODE).set_pids(77)
        drifted = quotas.converge(here, dry_run=True)
        assert drifted.actions == [f"pids: {here.pids}"]
        assert quotas.converge(here).actions == drifted.actions
        assert quotas.converge(here).actions == []
    assert kernel(lab, NODE) == before


LAYERS = st.sampled_from(["one", "two", "three"])
ASKED = st.fixed_dictionaries(
    {},
    optional={
        "condition": st.sampled_from(disks.CONDITIONS),
        "how": st.sampled_from(disks.HOWS),
        "fill": st.sampled_from([0.3, 0.6, 1.0]),
        "size": st.sampled_from([4 * MIB, 20 * MIB]),
    },
)
STEPS = st.lists(st.tuples(LAYERS, st.none() | ASKED), max_size=6)


@pytest.fixture
def fresh(lab: Paths) -> Iterator[tuple[Paths, tuple[object, ...]]]:
    write(lab, "/data/file", "kept\n")
    with testbed.inside(lab, NODE):
        os.sync()
    yield lab, (without_device(mounts(lab)), df(lab), kernel(lab, NODE))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@example([("one", {"condition": "readonly", "how": "lazy"}), ("two", {"fill": 1.0})], True)
@example(
    [("one", {"condition": "unmounted", "fill": 0.6}), ("one", {"condition": "detached"})], False
)
@given(STEPS, st.booleans())
def test_in_whichever_order_layers_come_and_go_the_end_is_as_the_beginning(
    fresh: tuple[Paths, tuple[object, ...]],
    steps: list[tuple[str, dict[str, object] | None]],
    in_use: bool,
) -> None:
    lab, before = fresh

    with User(lab, "/data/file") if in_use else contextlib.nullcontext():
        for layer, asked in steps:
            if asked is None:
                heal(lab, layer)
            else:
                with unless_busy(lab):
                    ask(lab, layer, **asked)
            assert drift(lab) == []
        heal(lab, None)

    assert (without_device(mounts(lab)), df(lab), kernel(lab, NODE)) == before
    assert read(lab, "/data/file") == "kept\n"
    assert layers.load(lab.node(NODE) / disks.STORE) == {"base": {}}
    assert len(loops(lab)) == 1


@pytest.mark.parametrize("in_use", [False, True], ids=["idle", "in use"])
def test_whoever_is_killed_half_way_leaves_what_the_next_can_put_right(
    fresh: tuple[Paths, tuple[object, ...]], in_use: bool
) -> None:
    lab, before = fresh
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # pytest shows it if this fails
    chance = random.Random(seed)
    with User(lab, "/data/file") if in_use else contextlib.nullcontext():
        for _ in range(30):
            child = start_perturbing(lab, random.Random(chance.random()))
            time.sleep(chance.uniform(0.005, 0.1))
            os.kill(child, signal.SIGKILL)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL

            with testbed.inside(lab, NODE) as here, contextlib.suppress(errors.DisturbanceError):
                disks.converge(here)
            with testbed.inside(lab, NODE) as here:
                quotas.converge(here)
            assert in_use or drift(lab) == []
            assert len(loops(lab)) <= 1
        heal(lab, None)

    assert (without_device(mounts(lab)), df(lab), kernel(lab, NODE)) == before
    assert read(lab, "/data/file") == "kept\n"
    ask(lab, condition="unmounted")
    done = fsck(lab)
    assert done.returncode == 0, done.stdout


def start_perturbing(place: Paths, chance: random.Random) -> int:
    """Start a process that sets and heals layers until it is killed; return its id."""
    child = os.fork()
    if child:
        return child
    bodies = [{"fill": 0.5}, {"size": 8 * MIB}]
    bodies += [{"condition": each, "how": how} for each in disks.CONDITIONS for how in disks.HOWS]
    try:
        while True:
            layer = chance.choice(["one", "two"])
            # Healing too: what remains may ask for a clean unmounting that a killed one never made.
            with unless_busy(place):
                if chance.random() < 0.4:
                    heal(place, layer)
                else:
                    ask(place, layer, **chance.choice(bodies))
    finally:
        traceback.print_exc()
        os._exit(1)


@contextlib.contextmanager
def unless_busy(place: Paths) -> Iterator[None]:
    """Change layers; that somebody uses the disk is a reason not to, and then nothing is stored."""
    before = layers.load(place.node(NODE) / disks.STORE)
    try:
        yield
    except errors.DisturbanceError as error:
        if "is in use by" not in str(error):
            raise
        assert layers.load(place.node(NODE) / disks.STORE) == before


def test_a_node_without_a_disk_says_so(place: Paths, tmp_path: Path) -> None:
    text = "name: bare\nsites: {a: {access: lan}}\nkinds: {n: {cpu: 0.1, memory: 64Mi}}\n"
    path = tmp_path / "bare.yaml"
    path.write_text(f"{text}nodes: [{{name: n-1, site: a, kind: n}}]\n")
    testbed.up(topology.load(str(path)), place)

    with pytest.raises(errors.DisturbanceError, match="n-1 has no data disk"):
        ask(place, condition="unmounted")
    assert drift(place) == []
