# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pkgctl.nodeside import channel
from pkgctl.remote.gathering import GATHER


def test_what_a_message_cannot_hold_is_left_for_the_next():
    node = {"stores": {"link": {"stamp": "1", "layers": {"base": "x" * 300_000}}}}
    answers = {name: {"nodes": {name: node}} for name in ("a", "b", "c")}

    found = GATHER["look"](answers)

    assert (list(found["nodes"]), found["left"]) == (["a"], ["b", "c"])
    channel.encode(found)


def test_a_node_that_alone_fills_a_message_is_not_left_for_ever():
    answers = {"a": {"nodes": {"a": {"stores": "x" * 900_000}}}}

    assert GATHER["look"](answers)["left"] == []


def test_steps_add_up():
    assert GATHER["timeline-start"]({"a": {"steps": 1}, "b": {"steps": 2}}) == {"steps": 3}
    assert GATHER["timeline-start"]({}) == {"steps": 0}


def test_each_node_s_pairs_were_read_at_its_own_time():
    answers = {
        "a": {"pairs": [["a", "b", 1, 1, 0]], "mono": 1.0},
        "b": {"pairs": [["b", "a", 2, 1, 0]], "mono": 3.0},
    }

    found = GATHER["traffic"](answers)

    assert [pair[0] for pair in found["pairs"]] == ["a", "b"]
    assert (found["monos"], found["mono"]) == ({"a": 1.0, "b": 3.0}, 2.0)
