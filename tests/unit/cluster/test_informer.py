# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from pkgctl.cluster.informer import Informer
from pkgctl.errors import ClusterError, Refused

PATH = "/api/v1/things"


def thing(name: str, value: int, version: int = 1, uid: str = "") -> dict[str, Any]:
    meta = {"name": name, "uid": uid or f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": meta, "value": value}


class Script:
    """An API that answers lists and watches as it was told, and then waits."""

    def __init__(self, *steps: Any) -> None:
        self.steps = deque(steps)
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.idle: queue.SimpleQueue[None] = queue.SimpleQueue()

    def get(self, _path: str, **query: Any) -> Any:
        return self._next("list", query)

    def watch(self, _path: str, version: str, _timeout: float, **query: Any) -> Any:
        return FakeStream(self._next("watch", {"version": version, **query}), self.idle)

    def _next(self, what: str, query: dict[str, Any]) -> Any:
        self.asked.append((what, query))
        step = self.steps.popleft() if self.steps else []
        if isinstance(step, Exception):
            raise step
        return step


class FakeStream:
    def __init__(self, events: list[Any], idle: queue.SimpleQueue[None]) -> None:
        self.events, self.idle = events, idle
        self.stopped: queue.SimpleQueue[None] = queue.SimpleQueue()

    def __iter__(self) -> Any:
        for event in self.events:
            if isinstance(event, Exception):
                raise event
            yield event
        if not self.events:
            self.idle.put(None)
            self.stopped.get(timeout=10)

    def stop(self) -> None:
        self.stopped.put(None)


def listed(*things: dict[str, Any], version: int = 1, more: str = "") -> dict[str, Any]:
    return {"metadata": {"resourceVersion": str(version), "continue": more}, "items": list(things)}


def event(kind: str, each: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "object": each}


def told(script: Script, failed: Callable[[ClusterError], None] | None = None) -> list[Any]:
    """Run an informer through a script, and return what it told: name, old and new value."""
    seen: list[Any] = []
    informer = Informer(
        script,  # type: ignore[arg-type]
        PATH,
        lambda raw: raw["value"],
        lambda change: seen.append((change.key[1], change.old, change.new)),
        settled=lambda: seen.append("settled"),
        failed=failed,
        patience=0.0,
        query={"fieldSelector": "a=b"},
    )
    informer.start()
    script.idle.get(timeout=20)
    informer.stop()
    seen.append(dict(informer.objects))
    return seen


def test_the_list_is_told_then_what_changes():
    script = Script(
        listed(thing("a", 1), thing("b", 2), version=7),
        [
            event("MODIFIED", thing("a", 5, 8)),
            event("ADDED", thing("c", 3, 9)),
            event("DELETED", thing("b", 2, 10)),
        ],
    )

    seen = told(script)

    assert seen[:3] == [("a", None, 1), ("b", None, 2), "settled"]
    assert seen[3:6] == [("a", 1, 5), ("c", None, 3), ("b", 2, None)]
    assert seen[-1] == {("", "a"): 5, ("", "c"): 3}
    watches = [query for what, query in script.asked if what == "watch"]
    assert [each["version"] for each in watches] == ["7", "10"]
    assert {each["fieldSelector"] for each in watches} == {"a=b"}


def test_what_stays_as_it_was_is_not_told():
    script = Script(listed(thing("a", 1)), [event("MODIFIED", thing("a", 1, 8))])

    assert told(script)[:-1] == [("a", None, 1), "settled"]


def test_a_bookmark_moves_the_version_and_is_no_change():
    mark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "99"}}}
    script = Script(listed(), [mark])

    assert told(script)[:-1] == ["settled"]
    assert script.asked[-1][1]["version"] == "99"


@pytest.mark.parametrize("late", [False, True], ids=["at once", "in the stream"])
def test_a_version_that_is_too_old_has_the_list_read_again_and_only_differences_told(late):
    gone = Refused("too old", status=410)
    script = Script(
        listed(thing("a", 1), thing("b", 2), thing("c", 3)),
        [gone] if late else gone,
        listed(thing("a", 1), thing("b", 9), version=50),
    )

    seen = told(script)

    assert seen[4:6] == [("c", 3, None), ("b", 2, 9)]
    assert seen.count("settled") == 1
    assert script.asked[-1][1]["version"] == "50"


def test_a_broken_connection_goes_on_where_it_was():
    script = Script(
        listed(version=7),
        [event("ADDED", thing("a", 1, 8)), ClusterError("gone")],
        ClusterError("still gone"),
        [event("MODIFIED", thing("a", 2, 9))],
    )

    assert told(script)[1:3] == [("a", None, 1), ("a", 1, 2)]
    assert [what for what, _ in script.asked].count("list") == 1


def test_another_of_the_same_name_is_one_that_went_and_one_that_came():
    script = Script(listed(thing("a", 1)), [event("MODIFIED", thing("a", 1, 8, uid="other"))])

    assert told(script)[2:4] == [("a", 1, None), ("a", None, 1)]


def test_a_long_list_is_read_in_pages():
    script = Script(listed(thing("a", 1), more="next"), listed(thing("b", 2)))

    assert told(script)[:2] == [("a", None, 1), ("b", None, 2)]
    assert script.asked[1][1]["continue"] == "next"


def test_who_may_not_look_is_told_and_the_informer_ends():
    script, errors = Script(Refused("forbidden", status=403)), list[str]()

    def failed(error: ClusterError) -> None:
        errors.append(str(error))
        script.idle.put(None)

    told(script, failed)

    assert errors == ["forbidden"]
    assert len(script.asked) == 1


def test_being_refused_for_a_moment_is_no_failure():
    script = Script(Refused("starting", status=403), listed(thing("a", 1)))
    errors: list[ClusterError] = []
    informer_seen = told_patiently(script, errors.append)

    assert informer_seen == [("a", 1)] and errors == []


def told_patiently(script: Script, failed: Callable[[ClusterError], None]) -> list[Any]:
    seen: list[Any] = []
    informer = Informer(
        script,  # type: ignore[arg-type]
        PATH,
        lambda raw: raw["value"],
        lambda change: seen.append((change.key[1], change.new)),
        failed=failed,
    )
    informer.start()
    script.idle.get(timeout=20)
    informer.stop()
    return seen


def test_who_could_look_once_is_not_given_up_for_being_refused_later():
    refused = Refused("starting again", status=401)
    script = Script(listed(), refused, refused, [event("ADDED", thing("a", 1, 8))])

    assert told(script, failed=lambda _: pytest.fail("given up"))[1] == ("a", None, 1)
