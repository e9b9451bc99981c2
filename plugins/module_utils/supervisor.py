# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's units: kept running while their nodes run, and found again by the next agent.

Each is in a control group of its own beside its node's, for what keeps a node running is not
counted against its capacity; what it starts may go on below that when it ends.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import condition, daemon, jobs, notices, supervised, supervision, syscalls
from .cgroups import Group, group
from .errors import AgentError, DisturbanceError, NodeError
from .identity import Identity
from .loop import Loop, Timer
from .notices import Notices
from .supervised import OFF, RESTARTING, RUNNING, STARTING, STOPPED, STOPPING, Kept
from .supervision import Unit

# How often it is looked whether what was to end has ended.
_LOOK = 0.05
_MOST_LINES = 200

Body = dict[str, Any]
Key = tuple[str, str]


class Supervisor:
    """Keeps the units of a testbed's nodes running."""

    def __init__(
        self,
        directory: Path,
        loop: Loop,
        nodes: Callable[[str], Identity],
        names: Callable[[], list[str]],
        tell: Callable[[Body], None],
    ) -> None:
        """Take up the units whose records are in the nodes' folders, as far as they run.

        Args:
            directory: the testbed's folder.
            loop: where to wait for processes and for their own words.
            nodes: returns a node's identity by name.
            names: returns the names of all nodes.
            tell: is told of each change in a unit's life.
        """
        self._directory = directory
        self._loop = loop
        self._nodes = nodes
        self._tell = tell
        self._timers: dict[Key, Timer] = {}
        self._notices: dict[Key, Notices] = {}
        self._kept = supervised.load_all({name: self._folder(name) for name in names()})
        for kept in list(self._kept.values()):
            self._adopt(kept)

    # What is asked.

    def set(self, request: Body) -> Body:
        """Take on a unit's declaration; what runs goes on with the one that it was started from.

        With ``dry_run`` it is only told what would differ, and nothing is changed.
        """
        node, unit = self._nodes(str(request["node"])), supervision.parse(request["unit"])
        known = self._kept.get((node.name, unit.name))
        differs = supervision.differing(known.unit if known else None, unit)
        if differs and not request.get("dry_run"):
            _check_up(node)
            if known is not None and known.removing:
                raise AgentError(f"unit {unit.name} of {node.name} is being removed")
            self._take_on(known or Kept(node.name, unit), unit)
        return {"differs": differs}

    def _take_on(self, kept: Kept, unit: Unit) -> None:
        before = kept.unit, kept.stale
        kept.unit, kept.stale = unit, kept.pid is not None
        try:
            kept.save(self._folder(kept.node))
        except OSError as error:
            kept.unit, kept.stale = before
            what = f"unit {unit.name} of {kept.node} cannot be recorded"
            raise AgentError(f"{what}: {error.strerror}") from error
        self._kept[kept.key] = kept

    def listing(self, request: Body) -> Body:
        """Return what is known of all units, of a ``node``'s, or of the one with a ``name``.

        With ``lines`` each comes with so many last lines of its log.
        """
        lines = min(int(request.get("lines", 0)), _MOST_LINES)
        wanted = [(key, request[key]) for key in ("node", "name") if request.get(key) is not None]
        found = [{**kept.told(), **self._more(kept, lines)} for kept in self._kept.values()]
        return {"units": [each for each in found if all(each[key] == is_ for key, is_ in wanted)]}

    def _more(self, kept: Kept, lines: int) -> Body:
        log = {"log": supervised.last_lines(self._log(kept), lines)} if lines > 0 else {}
        return {"shown": supervision.shown(kept.unit), **log}

    def start(self, request: Body) -> Body:
        """Have a unit run from now on."""
        kept = self._asked(request)
        kept.wanted, kept.restarts, kept.again = True, 0, kept.status == STOPPING
        self._save(kept)
        if kept.pid is None and kept.status != STOPPING:
            self._begin(kept)
        return {"unit": kept.told()}

    def stop(self, request: Body) -> Body:
        """Have a unit end, and not run any more."""
        kept = self._asked(request)
        kept.wanted, kept.again = False, False
        self._end(kept)
        return {"unit": kept.told()}

    def restart(self, request: Body) -> Body:
        """Have a unit end, if it runs, and start anew."""
        kept = self._asked(request)
        kept.wanted, kept.again, kept.restarts = True, True, 0
        self._end(kept)
        return {"unit": kept.told()}

    def remove(self, request: Body) -> Body:
        """Have a unit end with all that it has started, and forget it."""
        kept = self._asked(request)
        kept.wanted, kept.again, kept.removing = False, False, True
        self._end(kept)
        return {}

    def _asked(self, request: Body) -> Kept:
        """Return the unit of a request about one that is to change.

        Raises:
            AgentError: if there is none, or it is being removed.
            NodeError: if its node is not up.
        """
        node, name = self._nodes(str(request["node"])), str(request["name"])
        kept = self._kept.get((node.name, name))
        if kept is None or kept.removing:
            raise AgentError(f"node {node.name} has no unit {name!r}")
        _check_up(node)
        return kept

    # What happens by itself.

    def resume(self) -> None:
        """Start what is to run and does not."""
        for name in {kept.node for kept in self._kept.values()}:
            self.node_changed(name)

    def node_changed(self, name: str) -> None:
        """Start a node's units that wait for it, if it is up."""
        for kept in list(self._kept.values()):
            if kept.node == name and kept.wanted and kept.status in (OFF, STOPPED):
                self._begin(kept)

    def sweep(self) -> None:
        """Bound all logs, and forget the units of nodes that are gone."""
        for kept in list(self._kept.values()):
            if self._is_gone(kept):
                self._forget(kept)
            else:
                supervised.bound_log(self._log(kept))

    def _adopt(self, kept: Kept) -> None:
        """Take up a unit of an agent that is gone."""
        pid = kept.pid if kept.lives() else None
        if pid is not None and kept.status != STOPPED:
            if kept.unit.notify:
                self._listen(kept, notices.held(pid, kept.notices))
            if self._await(kept, pid):
                if kept.status == STOPPING:
                    self._end(kept)
                return
        kept.pid = None
        if kept.status == STOPPING:
            self._clear(kept, 0.0)
        else:
            kept.set(STOPPED)

    def _await(self, kept: Kept, pid: int) -> bool:
        """Mind a process's end; return False if it has none to wait for any more."""
        try:
            self._loop.await_exit(pid, lambda status: self._ended(kept, pid, status))
        except OSError:
            return False
        return True

    # Starting.

    def _begin(self, kept: Kept) -> None:
        """Start a unit that is wanted and does not run, if its node is up."""
        self._call_off(kept)
        if not kept.wanted or kept.pid is not None or daemon.is_going_down(self._directory):
            return
        if self._is_gone(kept):
            self._forget(kept)
            return
        try:
            node = self._nodes(kept.node)
            if condition.is_up(condition.load(node.directory)):
                self._launch(node, kept)
            else:
                self._set(kept, OFF)
        except (DisturbanceError, OSError) as error:
            kept.error = f"cannot be started: {error}"
            self._try_again(kept)

    def _launch(self, node: Identity, kept: Kept) -> None:
        own = self._group(kept)
        own.create()
        log = self._log(kept)
        log.parent.mkdir(parents=True, exist_ok=True)
        supervised.bound_log(log)
        copy = self._listen(kept).copy() if kept.unit.notify else None
        pins = self._directory / "ns" / node.name
        place = jobs.Place(pins, own, log, guard=self._folder(node.name))
        supervised.start(place, node.name, kept.unit, copy, lambda pid: self._begun(kept, pid))

    def _begun(self, kept: Kept, pid: int) -> None:
        kept.begun(pid)
        self._await(kept, pid)
        self._note(kept)

    def _listen(self, kept: Kept, held: socket.socket | None = None) -> Notices:
        """Listen for a unit's word that it is ready, on the socket that it holds if it does."""
        self._hang_up(kept)
        place = self._record(kept).with_suffix(".sock")
        found = Notices(self._loop, held or notices.bound(place), lambda: self._is_ready(kept))
        kept.notices = found.inode
        self._notices[kept.key] = found
        return found

    def _is_ready(self, kept: Kept) -> None:
        if kept.status == STARTING:
            self._set(kept, RUNNING)

    def _hang_up(self, kept: Kept) -> None:
        if (found := self._notices.pop(kept.key, None)) is not None:
            found.close()

    # Ending.

    def _ended(self, kept: Kept, pid: int, status: int | None) -> None:
        if kept.pid != pid or self._kept.get(kept.key) is not kept:
            return
        kept.pid, kept.exit = None, status
        self._hang_up(kept)
        self._call_off(kept)
        if kept.status == STOPPING:
            self._clear(kept, syscalls.monotonic() + kept.unit.grace)
            return
        kept.error = supervised.words(status, supervised.last_lines(self._log(kept), 1))
        if kept.unit.kill == supervision.GROUP:
            self._signal_all(kept, signal.SIGKILL)
        self._try_again(kept)

    def _try_again(self, kept: Kept) -> None:
        """Start a unit again when its time has come; one whose node is down waits for that."""
        if self._is_gone(kept):
            self._forget(kept)
        elif not self._is_node_up(kept):
            self._set(kept, OFF)
        else:
            kept.restarts += 1
            self._set(kept, RESTARTING)
            self._at(kept, kept.unit.restart_seconds, lambda: self._begin(kept))

    def _end(self, kept: Kept) -> None:
        """Ask a unit to end, and kill it when its grace is over."""
        self._call_off(kept)
        if kept.pid is None:
            self._clear(kept, syscalls.monotonic() + kept.unit.grace)
            return
        self._set(kept, STOPPING)
        self._signal(kept, signal.SIGTERM)
        self._at(kept, kept.unit.grace, lambda: self._signal(kept, signal.SIGKILL))

    def _clear(self, kept: Kept, deadline: float) -> None:
        """Go on once all has ended that is to end with the main process."""
        if kept.status != STOPPING:
            self._set(kept, STOPPING)
        if kept.removing or kept.unit.kill == supervision.GROUP:
            if kept.removing or syscalls.monotonic() >= deadline:
                self._signal_all(kept, signal.SIGKILL)
            if self._processes(kept):
                self._at(kept, _LOOK, lambda: self._clear(kept, deadline))
                return
        self._stopped(kept)

    def _stopped(self, kept: Kept) -> None:
        if kept.removing:
            self._forget(kept)
            return
        self._set(kept, STOPPED)
        if kept.again:
            self._begin(kept)

    def _forget(self, kept: Kept) -> None:
        """Leave nothing of a unit that has ended."""
        self._call_off(kept)
        self._hang_up(kept)
        self._kept.pop(kept.key, None)
        own, log = self._record(kept), self._log(kept)
        for path in (own, own.with_suffix(".sock"), log, log.with_suffix(".old")):
            path.unlink(missing_ok=True)
            with suppress(OSError):
                path.parent.rmdir()
        with suppress(DisturbanceError):
            self._group(kept).remove()
            system = group(supervision.system_of(self._nodes(kept.node)))
            if not system.children():
                system.remove()
        self._tell({"event": "unit", **kept.told(), "status": "removed"})

    def _signal(self, kept: Kept, number: int) -> None:
        if kept.unit.kill == supervision.GROUP or (kept.removing and number == signal.SIGKILL):
            self._signal_all(kept, number)
        elif kept.pid is not None and kept.lives():
            with suppress(ProcessLookupError):
                os.kill(kept.pid, number)

    def _signal_all(self, kept: Kept, number: int) -> None:
        for pid in self._processes(kept):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _processes(self, kept: Kept) -> list[int]:
        try:
            return [pid for each in self._group(kept).descend() for pid in each.processes()]
        except (OSError, DisturbanceError):
            return []  # Its group, or its node, goes away meanwhile.

    # Where things are.

    def _folder(self, name: str) -> Path:
        return self._directory / "nodes" / name

    def _record(self, kept: Kept) -> Path:
        return supervised.record(self._folder(kept.node), kept.unit.name)

    def _log(self, kept: Kept) -> Path:
        return self._directory / "logs" / supervised.FOLDER / kept.node / f"{kept.unit.name}.log"

    def _group(self, kept: Kept) -> Group:
        return group(supervision.group_of(self._nodes(kept.node), kept.unit.name))

    def _is_gone(self, kept: Kept) -> bool:
        """Return whether a unit's record went, and its node with it."""
        return not self._record(kept).exists()

    def _is_node_up(self, kept: Kept) -> bool:
        try:
            return condition.is_up(condition.load(self._folder(kept.node)))
        except NodeError:
            return True

    # What is noted.

    def _at(self, kept: Kept, seconds: float, action: Callable[[], None]) -> None:
        self._call_off(kept)
        self._timers[kept.key] = self._loop.at(syscalls.monotonic() + seconds, action)

    def _call_off(self, kept: Kept) -> None:
        if (timer := self._timers.pop(kept.key, None)) is not None:
            timer.cancel()

    def _set(self, kept: Kept, status: str) -> None:
        kept.set(status)
        self._note(kept)

    def _note(self, kept: Kept) -> None:
        self._save(kept)
        self._tell({"event": "unit", **kept.told()})

    def _save(self, kept: Kept) -> None:
        """Keep a unit's record for the next agent; without it this one goes on all the same."""
        try:
            if self._folder(kept.node).is_dir():
                kept.save(self._folder(kept.node))
        except OSError as error:
            who = f"unit {kept.unit.name} of {kept.node}"
            print(f"{who} is not recorded: {error.strerror}", file=sys.stderr, flush=True)


def _check_up(node: Identity) -> None:
    """Refuse to change a unit of a node that is not running.

    Raises:
        NodeError: in one line.
    """
    if not condition.is_up(now := condition.load(node.directory)):
        raise NodeError(f"node {node.name} is {now}: its units are left as they are")
