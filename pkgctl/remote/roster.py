# SPDX-License-Identifier: GPL-3.0-or-later
"""The jobs of a testbed whose nodes each keep their own, as they were last heard of. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from typing import Any

from pkgctl.nodeside import jobs

Record = dict[str, Any]
REMOVED = "removed"
_ORDER = ("pulling", "starting", "running")


class Roster:
    """The latest record of each job, by its name."""

    def __init__(self) -> None:
        """Know of none."""
        self._records: dict[str, Record] = {}
        # Words of jobs' removals that have been told already, by node and job.
        self._expected: Counter[tuple[str, str]] = Counter()

    def all(self) -> list[Record]:
        """Return all records."""
        return list(self._records.values())

    def node(self, name: str) -> str | None:
        """Return on which node a job is; None if there is no such job."""
        found = self._records.get(name)
        return None if found is None else str(found["node"])

    def is_alive(self, name: str) -> bool:
        """Return whether there is a job of a name that has not ended."""
        return name in self._records and not has_ended(self._records[name])

    def note(self, record: Mapping[str, Any]) -> bool:
        """Take note of a record; return whether it says anything new."""
        fresh = dict(record)
        name, node = str(fresh["id"]), str(fresh["node"])
        if fresh["status"] == REMOVED:
            return self._note_removal(name, node)
        known = self._records.get(name)
        if known is not None and (known == fresh or _is_older(fresh, known)):
            return False
        if known is not None and has_ended(known) and has_ended(fresh):
            # As one that was lost with its node, whose agent says so again when it is back.
            return False
        self._records[name] = fresh
        return True

    def _note_removal(self, name: str, node: str) -> bool:
        if self._expected[node, name]:
            self._expected[node, name] -= 1
            return False
        if self.node(name) != node:
            return False
        del self._records[name]
        return True

    def take_out(self, name: str) -> Record:
        """Forget a job before its node says that it is removed; return its last record."""
        record = self._records.pop(name)
        self._expected[str(record["node"]), name] += 1
        return {**record, "status": REMOVED}

    def compare(self, node: str, found: Iterable[Mapping[str, Any]], at: float) -> list[Record]:
        """Return what is news in all records of one node.

        A job of which the node knows nothing is lost: its record went with the node's power. One
        that had ended stays as it was last heard of.
        """
        listed = {str(record["id"]): dict(record) for record in found}
        # Nothing is on its way from a node that was just asked for everything.
        self._expected = Counter({key: n for key, n in self._expected.items() if key[0] != node})
        news = [record for record in listed.values() if self._is_news(record)]
        for record in listed.values():
            self.note(record)
        return [*self._lose(node, f"node {node} lost it", at, spared=listed), *news]

    def _is_news(self, record: Record) -> bool:
        known = self._records.get(record["id"])
        return (
            known is None or known["status"] != record["status"] or known["node"] != record["node"]
        )

    def lose(self, node: str, reason: str, at: float) -> list[Record]:
        """Return the jobs that ended because their node went down, as they are now."""
        return self._lose(node, reason, at, spared=())

    def _lose(self, node: str, reason: str, at: float, spared: Container[str]) -> list[Record]:
        lost = []
        for name, record in self._records.items():
            if record["node"] == node and name not in spared and not has_ended(record):
                stamps = {**record["stamps"], "finished": at}
                told = {"status": "failed", "lost": True, "error": reason, "stamps": stamps}
                self._records[name] = {**record, **told}
                lost.append(self._records[name])
        return lost


def has_ended(record: Mapping[str, Any]) -> bool:
    """Return whether a job will not run again."""
    return record["status"] in jobs.ENDED


def _is_older(fresh: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """Return whether one record of the same life of a job was overtaken by another."""
    same = abs(_submitted(fresh) - _submitted(known)) < 1e-3
    return same and _rank(fresh) < _rank(known)


def _submitted(record: Mapping[str, Any]) -> float:
    return float(record["stamps"].get("submitted", 0.0))


def _rank(record: Mapping[str, Any]) -> int:
    status = record["status"]
    return _ORDER.index(status) if status in _ORDER else len(_ORDER)
