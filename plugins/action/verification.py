# -*- coding: utf-8 -*-
# Copyright: (c) The pkgctl authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars

from ..module_utils import readback, selection, verification, words
from .perturbation import given_words, nodes

WORDS = ("sample", "all", "src", "dst", "budget", "seed")
Pair = verification.Pair
Facts = Mapping[str, Mapping[str, Any]]


class ActionModule(ActionBase):
    """Chooses pairs, plans their measurement, judges what was measured; changes nothing."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _VALID_ARGS = frozenset({"meaning", "words", "pairs", "facts", "found", "budget"})

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return what is asked for, or a failure in one line."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(
            argument_spec={
                "meaning": {"type": "str", "choices": list(_MEANINGS), "required": True},
                "words": {"type": "dict"},
                "pairs": {"type": "list", "elements": "list"},
                "facts": {"type": "dict"},
                "found": {"type": "list", "elements": "dict", "default": []},
                "budget": {"type": "float"},
            }
        )
        if given["words"] is None:
            given["words"] = given_words(load_extra_vars(self._loader))
        try:
            return {**result, **_MEANINGS[given["meaning"]](given, task_vars or {})}
        except ValueError as error:
            return {**result, "failed": True, "msg": str(error)}


def choose(given: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pairs that the words mean on the nodes of the inventory."""
    asked: Mapping[str, Any] = given["words"]
    words.check_words(asked, WORDS)
    known = nodes(variables)
    chosen = _named(asked, known) if {"src", "dst"} & asked.keys() else _drawn(asked, known)
    budget = verification.read_budget(asked.get("budget", f"{verification.BUDGET_SECONDS:g}s"))
    ends = {end for pair in chosen for end in pair}
    hosts = [node.name for node in known if node.name in ends]
    return {"pairs": [list(pair) for pair in chosen], "hosts": hosts, "budget": budget}


def _named(asked: Mapping[str, Any], known: Sequence[selection.Node]) -> list[Pair]:
    for word in ("sample", "all", "seed"):
        if word in asked:
            raise ValueError(f"{word}: has no effect beside src and dst; leave it out")
    ends = [
        selection.read(word, asked[word]).choose(known) if word in asked else None
        for word in ("src", "dst")
    ]
    names = [node.name for node in known]
    pairs = [
        (one, other)
        for one in names
        for other in names
        if one != other
        and all(end is None or name in end for name, end in zip((one, other), ends, strict=True))
    ]
    if not pairs:
        raise ValueError("src: names no other node than dst")
    return pairs


def _drawn(asked: Mapping[str, Any], known: Sequence[selection.Node]) -> list[Pair]:
    everything = words.read_flag("all", asked.get("all", False))
    if everything and "sample" in asked:
        raise ValueError("sample: has no effect beside all; leave one out")
    seed = words.read_seed(asked.get("seed", 0))
    sites = {node.name: node.site for node in known}
    mode = "all" if everything else "sample"
    count = _count(asked["sample"]) if "sample" in asked else None
    return verification.choose(sites, mode, random.Random(seed), count)


def _count(value: object) -> int:
    if not str(value).isdecimal() or int(str(value)) < 1:
        raise ValueError(f"sample: {value!r} is no whole number, 1 or more")
    return int(str(value))


def plan(given: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return rounds, each with what every host measures; pairs that are right are left out."""
    asked, found, excused = _state(given)
    todo = {pair: wanted for pair, wanted in asked.items() if pair not in excused}
    if found:
        todo = verification.again(todo, verification.conclude(todo, found))
    schedule = verification.schedule(todo, float(given["budget"]))
    rounds = [
        {
            each.pair[0]: {
                "dst": each.pair[1],
                "what": each.what,
                "options": list(each.options),
                "streams": each.streams,
            }
            for each in one.measurements
        }
        for one in schedule.rounds
    ]
    left = [[list(each.pair), each.what] for each in schedule.left_out]
    return {"rounds": rounds, "left_out": left, "seconds": schedule.seconds}


def judge(given: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the verdict on each pair; it fails if any pair is not as asked."""
    asked, found, excused = _state(given)
    rows = [each.row() for each in verification.conclude(asked, found, (), excused)]
    failed = [row for row in rows if row["verdict"] == "fail"]
    counts = {
        kind: sum(row["verdict"] == kind for row in rows) for kind in ("pass", "fail", "unmeasured")
    }
    told = "; ".join(f"{row['src']} → {row['dst']}: {row['reason']}" for row in failed)
    return {"links": rows, "counts": counts, **({"failed": True, "msg": told} if failed else {})}


def _state(given: Mapping[str, Any]) -> tuple[dict[Pair, Any], dict[Any, Any], dict[Pair, str]]:
    """Return what is asked of each pair, what was found, and the pairs that cannot be asked."""
    facts: Facts = given["facts"] or {}
    pairs = [(str(source), str(target)) for source, target in given["pairs"] or ()]
    down = readback.unready(facts)
    excused = {pair: f"{end} is {down[end]}" for pair in pairs for end in pair if end in down}
    found = {
        ((one["src"], one["dst"]), one["what"]): verification.read_answers(
            one["what"], one["answers"]
        )
        for one in given["found"]
    }
    return verification.ask(pairs, readback.matrix(facts)), found, excused


_MEANINGS = {"choose": choose, "plan": plan, "judge": judge}
