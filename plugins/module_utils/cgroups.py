# SPDX-License-Identifier: GPL-3.0-or-later
"""Control groups of version 1, version 2, or both at once, behind one set of words.

A group is named by its path below each hierarchy's root. Each controller is used where this
machine has it: in the unified hierarchy if it is listed there, else in its own. In version 2 only
leaves may hold processes, so a node's processes always live in a child of the node's group.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from . import hierarchies
from .errors import CapabilityError, KernelError
from .hierarchies import Hierarchies

# The kernel's own choice for a new group, and Kubernetes' and systemd's too.
PERIOD = 100_000


@dataclass(frozen=True, slots=True)
class Usage:
    """What a group and all below it have used: cumulative seconds and bytes; memory in use now.

    What is moved to and from disks is None where it counts for the group above.
    """

    cpu_seconds: float
    throttled_seconds: float
    memory_bytes: int
    read_bytes: int | None
    write_bytes: int | None


@dataclass(frozen=True, slots=True)
class Group:
    """A control group by its path, such as ``pkgctl/default/nodes/edge-1``.

    Attributes:
        path: its path below each hierarchy's root.
        machine: this machine's hierarchies.
        throttled: the group above by whose disk throttles its processes are bound. Version 1 must
            be told: a throttle there binds the processes of its own group, and none below.
    """

    path: str
    machine: Hierarchies
    throttled: str = ""

    def child(self, name: str) -> Group:
        """Return the group below this one with a name."""
        return Group(f"{self.path}/{name}", self.machine, self.throttled or self.path)

    def folder(self, controller: str) -> Path:
        """Return the folder in which a controller's files of this group are.

        Raises:
            CapabilityError: if this machine lacks the controller.
        """
        if self.machine.is_unified(controller) and self.machine.v2 is not None:
            return self.machine.v2 / self.path
        if controller in self.machine.v1:
            return self.machine.v1[controller] / self.path
        raise CapabilityError(f"this machine has no cgroup controller {controller}")

    def folders(self) -> list[Path]:
        """Return the group's folder in each hierarchy."""
        return [root / self.path for root in self.machine.roots()]

    def everywhere(self) -> list[Path]:
        """Return the group's folder in each hierarchy, those that are not used too."""
        return self.folders() + [root / self.path for root in self.machine.others]

    def exists(self) -> bool:
        """Return whether the group is there in any hierarchy."""
        return any(folder.is_dir() for folder in self.folders())

    def create(self) -> None:
        """Make the group and those above it, with all controllers passed down."""
        for folder in self.folders():
            folder.mkdir(parents=True, exist_ok=True)
        if self.machine.v2 is not None and self.machine.unified:
            self._pass_down(self.machine.v2)

    def _pass_down(self, root: Path) -> None:
        place = root
        for part in Path(self.path).parts:
            passed = _read(place / "cgroup.subtree_control").split()
            # Where systemd has passed them down it is not to be bothered.
            if lacking := sorted(self.machine.unified - set(passed)):
                wanted = " ".join(f"+{name}" for name in lacking)
                _write(place / "cgroup.subtree_control", wanted)
            place /= part

    def join(self, pid: int = 0) -> None:
        """Move a process (0 is the caller) into the group in every hierarchy."""
        for folder in self.homes():
            _write(folder / "cgroup.procs", str(pid))

    def homes(self) -> list[Path]:
        """Return the folder that holds the group's processes in each hierarchy."""
        above = self.machine.throttles if self.throttled else None
        return [
            root / (self.throttled if root == above else self.path) for root in self.machine.roots()
        ]

    def mark(self, pid: int = 0) -> None:
        """Move a process where it is found and killed with the group, but not bounded by it.

        A real-time process may not enter a group of version 1's cpu controller.
        """
        _write(self.folder("pids") / "cgroup.procs", str(pid))

    def processes(self) -> list[int]:
        """Return the ids of the processes in this group, not below it."""
        found: set[int] = set()
        for folder in self.folders():
            found.update(int(pid) for pid in _read(folder / "cgroup.procs").split())
        return sorted(found)

    def children(self) -> list[Group]:
        """Return the groups right below this one."""
        names: set[str] = set()
        for folder in self.folders():
            # It may never have been there, or go meanwhile, as the group of a job that ends does.
            with suppress(FileNotFoundError), os.scandir(folder) as entries:
                names.update(entry.name for entry in entries if entry.is_dir())
        return [self.child(name) for name in sorted(names)]

    def descend(self) -> Iterator[Group]:
        """Yield this group and all below it, the deepest first."""
        for child in self.children():
            yield from child.descend()
        yield self

    def kill(self, *, spare: frozenset[int] = frozenset(), patience: float = 5.0) -> list[int]:
        """Kill every process in and below the group, and wait until they are gone.

        Args:
            spare: processes to leave alone.
            patience: seconds to wait.

        Returns:
            The processes that would not go.
        """
        groups = list(self.descend())
        deadline = time.monotonic() + patience
        while True:
            left = {pid for group in groups for pid in group.processes()} - spare
            if not left or time.monotonic() > deadline:
                return sorted(left)
            for group in groups:
                with suppress(KernelError):  # One that ends by itself may be gone by now.
                    group.freeze(frozen=False)
            for pid in left:
                _kill(pid)
            time.sleep(0.002)

    def kill_largest(self, patience: float = 5.0) -> bool:
        """Kill the process with the most memory, and wait; return whether there was any."""
        found = {pid: _resident(pid) for group in self.descend() for pid in group.processes()}
        largest = max(found, key=found.__getitem__, default=0)
        if not found.get(largest):
            return False
        _kill(largest)
        deadline = time.monotonic() + patience
        while not _has_ended(largest) and time.monotonic() < deadline:
            time.sleep(0.002)
        return True

    def remove(self) -> None:
        """Remove the group and all below it; processes in it must be gone.

        Raises:
            KernelError: if a folder stays busy.
        """
        for group in self.descend():
            for folder in group.folders():
                _remove(folder)
        for root in self.machine.others:
            # Nobody here makes groups in these, but what ran in this one may have.
            for place, _, _ in os.walk(root / self.path, topdown=False):
                _remove(Path(place))

    def freeze(self, *, frozen: bool) -> None:
        """Stop all processes of the group where they are, or let them go on."""
        if self.machine.is_unified("freezer"):
            _write(self.folder("freezer") / "cgroup.freeze", "1" if frozen else "0")
        elif self.machine.has("freezer"):
            state = "FROZEN" if frozen else "THAWED"
            _write(self.folder("freezer") / "freezer.state", state)

    def is_frozen(self) -> bool:
        """Return whether all processes of the group are stopped where they are."""
        if self.machine.is_unified("freezer"):
            return keyed(_read(self.folder("freezer") / "cgroup.events")).get("frozen") == 1
        if not self.machine.has("freezer"):
            return False
        return _read(self.folder("freezer") / "freezer.state").strip() == "FROZEN"

    def set_cpu(self, cores: float | None) -> None:
        """Bound the CPU time to a number of cores; None takes the bound away."""
        folder = self.folder("cpu")
        if self.machine.is_unified("cpu"):
            quota = "max" if cores is None else str(_quota(cores))
            _write(folder / "cpu.max", f"{quota} {PERIOD}")
        else:
            _write(folder / "cpu.cfs_quota_us", "-1" if cores is None else str(_quota(cores)))

    def cpu(self) -> float | None:
        """Return the bound on CPU time in cores."""
        folder = self.folder("cpu")
        if self.machine.is_unified("cpu"):
            # A slice of systemd's may lack a controller that nothing in it has needed so far.
            quota, _, period = _read(folder / "cpu.max").strip().partition(" ")
            return None if quota in ("max", "") else int(quota) / int(period)
        count = int(_read(folder / "cpu.cfs_quota_us"))
        return None if count < 0 else count / int(_read(folder / "cpu.cfs_period_us"))

    def set_memory(self, limit: int | None) -> None:
        """Bound the memory in bytes; None takes the bound away."""
        if self.machine.is_unified("memory"):
            _write(self.folder("memory") / "memory.max", "max" if limit is None else str(limit))
        else:
            text = "-1" if limit is None else str(limit)
            _write(self.folder("memory") / "memory.limit_in_bytes", text)

    def memory(self) -> int | None:
        """Return the bound on memory in bytes."""
        if self.machine.is_unified("memory"):
            text = _read(self.folder("memory") / "memory.max").strip()
            return None if text in ("max", "") else int(text)
        limit = int(_read(self.folder("memory") / "memory.limit_in_bytes"))
        return None if limit >= 1 << 62 else limit

    def memory_used(self) -> int:
        """Return the bytes in use, without the inactive files that could be dropped at once."""
        return self._memory("inactive_file")

    def memory_held(self) -> int:
        """Return the bytes that no lower bound could take away: those in use that no file has."""
        return self._memory("inactive_file", "active_file")

    def _memory(self, *without: str) -> int:
        folder = self.folder("memory")
        unified = self.machine.is_unified("memory")
        used = int(_read(folder / ("memory.current" if unified else "memory.usage_in_bytes")) or 0)
        stat, prefix = keyed(_read(folder / "memory.stat")), "" if unified else "total_"
        return max(used - sum(stat.get(prefix + key, 0) for key in without), 0)

    def set_pids(self, limit: int | None) -> None:
        """Bound the number of processes and threads; None takes it away."""
        _write(self.folder("pids") / "pids.max", "max" if limit is None else str(limit))

    def pids(self) -> int | None:
        """Return the bound on processes and threads."""
        text = _read(self.folder("pids") / "pids.max").strip()
        return None if text in ("max", "") else int(text)

    def usage(self) -> Usage:
        """Return what the group has used so far; zeros once it is gone."""
        cpu, throttled = self._cpu_used()
        read, written = self._moved()
        return Usage(cpu, throttled, self.memory_used(), read, written)

    def throttled_seconds(self) -> float:
        """Return for how long the group's own bound on CPU time has held its processes back."""
        return self._cpu_used()[1]

    def _cpu_used(self) -> tuple[float, float]:
        stat = keyed(_read(self.folder("cpu") / "cpu.stat"))
        if self.machine.is_unified("cpu"):
            return stat.get("usage_usec", 0) / 1e6, stat.get("throttled_usec", 0) / 1e6
        used = int(_read(self.folder("cpuacct") / "cpuacct.usage") or 0)
        return used / 1e9, stat.get("throttled_time", 0) / 1e9

    def _moved(self) -> tuple[int | None, int | None]:
        if self.throttled and self.machine.throttles is not None:
            return None, None
        if not self.machine.has("blkio"):
            return 0, 0
        if self.machine.is_unified("blkio"):
            return _moved_v2(_read(self.folder("blkio") / "io.stat"))
        lines = _read(
            self.folder("blkio") / "blkio.throttle.io_service_bytes_recursive"
        ).splitlines()
        moved = {"Read": 0, "Write": 0}
        for line in lines:
            parts = line.split()
            if len(parts) == 3 and parts[1] in moved:
                moved[parts[1]] += int(parts[2])
        return moved["Read"], moved["Write"]


def group(path: str) -> Group:
    """Return the group of this machine with a path."""
    return Group(path, hierarchies.here())


def keyed(text: str) -> dict[str, int]:
    """Return the numbers of a file with a ``key number`` pair in each line."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}


def _moved_v2(text: str) -> tuple[int, int]:
    pairs = [word.split("=") for word in text.split() if "=" in word]
    read, written = (
        sum(int(n) for key, n in pairs if key == want) for want in ("rbytes", "wbytes")
    )
    return read, written


def _quota(cores: float) -> int:
    # The kernel takes no quota below a millisecond.
    return max(round(cores * PERIOD), 1000)


def _write(path: Path, text: str) -> None:
    try:
        with path.open("w") as file:
            file.write(text)
    except OSError as error:
        raise KernelError(f"write {text!r} to {path}", error.errno or errno.EIO) from error


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        if error.errno == errno.ENODEV:
            return ""
        raise KernelError(f"read {path}", error.errno or errno.EIO) from error


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _resident(pid: int) -> int:
    """Return a process's resident pages; none once it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0


def _has_ended(pid: int) -> bool:
    """Return whether a process is gone, or waits for its parent with its memory freed."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def _remove(folder: Path, patience: float = 2.0) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            # A group stays busy for a moment after its last process was reaped.
            if time.monotonic() > deadline:
                raise KernelError(f"remove {folder}", error.errno or errno.EBUSY) from error
            time.sleep(0.005)
        else:
            return
