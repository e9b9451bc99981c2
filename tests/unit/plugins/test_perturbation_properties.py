# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold for whatever is asked for: reading, planning and the way back to numbers."""

from __future__ import annotations

import itertools
import json
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.pkgctl.testbed.plugins.module_utils import (
    perturbation,
    quality,
    selection,
    timewords,
)
from ansible_collections.pkgctl.testbed.plugins.module_utils.selection import Node
from ansible_collections.pkgctl.testbed.plugins.module_utils.times import Times

SITES = ("cloud", "edge-a", "edge-b")
NODES = tuple(
    Node(f"node-{number}", SITES[number % 3], "edge" if number % 3 else "cloud", "tiny")
    for number in range(9)
)
NAMES = [node.name for node in NODES]

places = st.one_of(
    st.sampled_from([*NAMES, *SITES, "*", "tiny", "node-[1-4]", "site:edge-*"]),
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True),
    st.builds("random {} of {}".format, st.integers(1, 3), st.sampled_from([*SITES, "*"])),
    st.builds("random {}% of *".format, st.integers(1, 100)),
)
shares = st.integers(0, 10_000).map(lambda part: f"{part / 100:.2f}%")
links = st.fixed_dictionaries(
    {"delay": st.integers(0, 10**6).map("{}us".format), "loss": shares},
    optional={
        "bw": st.integers(1, 10**9).map("{}bit".format),
        "jitter": st.integers(0, 10**5).map("{}us".format),
        "burst": st.integers(1, 100),
        **{word: shares for word in ("duplicate", "reorder", "corrupt")},
    },
)
capacities = st.fixed_dictionaries(
    {"cpu": st.integers(1, 8000).map("{}m".format)},
    optional={
        "mem": st.integers(1, 1024).map("{}Mi".format),
        "iops": st.integers(1, 10**6),
        "pids": st.integers(1, 10**6),
    },
)
spans = st.integers(1, 10_000).map(lambda count: f"{count * 10}ms")
seeds = st.integers(0, 2**63 - 1)


def directions(plan: dict) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """Return the directed pairs that the senders, and those that the receivers are told of."""
    told = {"egress": set(), "ingress": set()}
    for host, parts in plan.items():
        for way, peers in parts.get("link", {}).items():
            named = [name for name in NAMES if name != host] if [*peers] == ["*"] else [*peers]
            told[way] |= {(host, peer) if way == "egress" else (peer, host) for peer in named}
    return told["egress"], told["ingress"]


@given(links, places, seeds, st.sampled_from(["to", "from", "both"]), st.randoms())
def test_both_ends_of_a_link_are_told_and_the_order_of_nodes_is_nothing(
    link, place, seed, direction, rng: random.Random
):
    words = {**link, "src": place, "seed": seed, "direction": direction}
    shuffled = rng.sample(NODES, len(NODES))

    asked = perturbation.read(words)
    sent, received = directions(asked.plan(NODES))

    assert sent == received != set()
    assert directions(asked.plan(shuffled)) == (sent, received)
    assert all(one != other for one, other in sent)


@given(links, places, seeds)
def test_the_directions_to_and_from_are_each_other_mirrored_and_both_is_their_sum(
    link, place, seed
):
    there, back, both = (
        directions(
            perturbation.read({**link, "src": place, "seed": seed, "direction": direction}).plan(
                NODES
            )
        )[0]
        for direction in ("to", "from", "both")
    )

    assert {(far, near) for near, far in there} == back
    assert there | back == both


@given(links)
def test_the_texts_of_a_plan_are_read_as_the_numbers_that_were_asked_for(link):
    plan = perturbation.read(link).plan(NODES)

    told = quality.parse(plan["node-0"]["link"]["egress"]["*"])

    known = {"bw": "rate"}
    asked = {known.get(word, word): value for word, value in link.items()}
    assert told == quality.parse(asked)


@given(capacities, places, seeds)
def test_capacity_is_set_where_the_selector_says_and_nowhere_else(capacity, place, seed):
    plan = perturbation.read({**capacity, "node": place, "seed": seed}).plan(NODES)

    assert {*plan} == selection.read("node", place).choose(NODES, seed)
    assert all([*parts] == ["quota"] for parts in plan.values())


@given(st.integers(1, 9), seeds)
def test_a_draw_has_its_size_and_holds_the_smaller_ones(count, seed):
    drawn = [
        selection.read("node", f"random {size} of *").choose(NODES, seed)
        for size in range(1, count + 1)
    ]

    assert [len(each) for each in drawn] == [*range(1, count + 1)]
    assert all(few < more for few, more in itertools.pairwise(drawn))


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "start": spans,
            "duration": spans,
            "ramp": st.one_of(spans, st.builds("{}/{}".format, spans, st.integers(1, 1000))),
            "repeat": st.one_of(spans, st.builds("{}/{}".format, st.integers(1, 9), spans)),
            "flap": st.builds("{}/{}{}".format, spans, spans, st.sampled_from(["", "/random"])),
            "when": st.sampled_from(["requests > 10", "node node-1 down", "job web ready"]),
            "lease": st.sampled_from(["none", "5m"]),
        },
    ),
    seeds,
)
@settings(max_examples=300)
def test_times_survive_the_way_to_the_agent_or_are_refused(words, seed):
    try:
        times = timewords.read(words, seed)
    except ValueError as error:
        assert str(error).partition(":")[0] in words
        return

    assert Times.from_dict(json.loads(json.dumps(times.to_dict()))) == times
    assert times.ends is None or times.lease is None
