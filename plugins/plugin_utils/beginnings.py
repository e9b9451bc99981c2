# SPDX-License-Identifier: GPL-3.0-or-later
"""Timelines over several agents: begun at one instant, by each one's own clock."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..module_utils import arming, channel, condition, watchman, words
from ..module_utils.errors import AgentError
from . import machines, relays
from .relays import Clock, Relay

# So far ahead the instant is at least, and so many times what the slowest agent takes to answer.
_AHEAD, _TIMES = 0.25, 6.0
Hosts = Mapping[str, Mapping[str, Any]]


def sorted_out(hosts: Hosts) -> tuple[Hosts, dict[str, str]]:
    """Return the hosts that can be asked, and the condition of each virtual machine that cannot."""
    known = {name: variables for name, variables in hosts.items() if machines.is_machine(variables)}
    nows = {name: condition.load(machines.guest(each).directory) for name, each in known.items()}
    up = {name: each for name, each in known.items() if condition.is_up(nows[name])}
    return up, {name: now for name, now in nows.items() if name not in up}


def perform(
    testbed: Path, hosts: Hosts, options: Mapping[str, Any], *, dry_run: bool
) -> dict[str, Any]:
    """Do what the timeline module was told on all hosts, and by the watchman.

    All agents are there, and their clocks known, before the timeline begins on any.

    Args:
        testbed: the testbed's folder.
        hosts: the variables of each virtual machine that is asked.
        options: those of the timeline module.
        dry_run: only say whether anything would change.

    Raises:
        AgentError: in one line, if an agent is out of reach or refuses.
        ValueError: in one line, for a name that cannot be one.
    """
    name = words.read_name("name", options["name"])
    begins = options["state"] == "begun"
    with _watchman(testbed) as here, relays.opened(hosts) as there:
        if dry_run:
            answers = relays.asked(there, "timeline-list") + _of(here, "timeline-list")
            listed = [each for answer in answers for each in answer["timelines"]]
            return {"changed": arming.would_change(listed, name, begins=begins)}
        if not begins:
            answers = relays.asked(there, "timeline-drop", timeline=name)
            answers += _of(here, "timeline-drop", timeline=name)
            return _report(answers)
        clocks = {each.name: each.clock() for each in there}
        return _begin(name, here, there, clocks)


def _begin(
    name: str, here: channel.Client | None, there: list[Relay], clocks: Mapping[str, Clock]
) -> dict[str, Any]:
    worst = max((clock.uncertainty for clock in clocks.values()), default=0.0)
    instant = time.monotonic() + (max(_AHEAD, _TIMES * worst) if there else 0.0)
    for each in there:
        t0 = instant + clocks[each.name].offset
        each.ask("timeline-start", timeline=name, t0=t0)
    answers = _of(here, "timeline-start", timeline=name, t0=instant)
    answers += [each.answer() for each in there]
    return {**_report(answers), "uncertainty": round(worst, 6)}


def _report(answers: list[dict[str, Any]]) -> dict[str, Any]:
    steps = sum(int(answer["steps"]) for answer in answers)
    return {"changed": steps > 0, "steps": steps}


@contextmanager
def _watchman(testbed: Path) -> Iterator[channel.Client | None]:
    """Have a connection to the watchman; none where there is none, who could hold nothing."""
    watchman.revive(testbed)
    try:
        client = channel.Client(watchman.socket(testbed))
    except AgentError:
        yield None
        return
    with client:
        yield client


def _of(client: channel.Client | None, op: str, **fields: Any) -> list[dict[str, Any]]:
    return [] if client is None else [client.call(op, **fields)]
