# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a testbed of virtual machines is what was asked for: read back, and measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pkgctl import playbook
from pkgctl.errors import PlayError
from pkgctl.local.readback import base_links
from pkgctl.local.state import read_state
from pkgctl.nodeside import condition, verdicts, verification
from pkgctl.remote import asking, ssh
from pkgctl.remote.places import Places

PLAYBOOK = "verify.yml"


def drift(places: Places) -> dict[str, list[str]]:
    """Return how nodes differ from what their layers and the testbed's record ask for.

    A node that is down by a layer of its health is as asked.

    Raises:
        TestbedError: if the testbed is not up, or a node that should does not answer.
    """
    record = read_state(places)
    base = base_links(record)
    up = [name for name in record["nodes"] if condition.is_up(condition.load(places.node(name)))]
    found = ssh.everywhere(
        (ssh.target(record, name) for name in up),
        lambda there: asking.ask(there, "drift", base=base[there.node]),
    )
    return {name: lines for name, lines in found.items() if lines}


def plays(pairs: Sequence[verification.Pair]) -> list[dict[str, Any]]:
    """Return the words of the playbook for pairs: one play if these are all pairs of some nodes."""
    sources = list(dict.fromkeys(source for source, _ in pairs))
    targets = list(dict.fromkeys(target for _, target in pairs))
    everything = {(one, other) for one in sources for other in targets if one != other}
    if everything == set(pairs):
        return [{"src": sources, "dst": targets}]
    return [
        {"src": [one], "dst": [target for source, target in pairs if source == one]}
        for one in sources
    ]


def measure(places: Places, words: Iterable[Mapping[str, Any]]) -> list[verdicts.Verdict]:
    """Measure pairs of nodes by the playbook and return the verdict on each.

    Args:
        places: the testbed.
        words: which pairs, as the playbook wants to know it, for one play after another.

    Raises:
        PlayError: if it could not be done.
    """
    return [verdict for each in words for verdict in _play(places, each)]


def _play(places: Places, words: Mapping[str, Any]) -> list[verdicts.Verdict]:
    play = playbook.play(PLAYBOOK, words, testbed=places.name, strict=False)
    results = (event["result"] for event in play.events)
    rows = next((each["links"] for each in results if _has_verdicts(each)), None)
    if rows is None:
        raise PlayError(PLAYBOOK, play.failures or {"localhost": "it measured nothing"})
    return [verdicts.Verdict(**row) for row in rows]


def _has_verdicts(result: object) -> bool:
    return isinstance(result, Mapping) and isinstance(result.get("links"), list)
