# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as any_

from ansible_collections.pkgctl.testbed.plugins.module_utils import layers, links, nftables
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import (
    AgentError,
    DisturbanceError,
    KernelError,
)
from ansible_collections.pkgctl.testbed.plugins.module_utils.pairsets import STARTS, WHOLE
from ansible_collections.pkgctl.testbed.plugins.module_utils.quality import Quality
from ansible_collections.pkgctl.testbed.plugins.module_utils.treatedpairs import TreatedPairs

from .agents import node

PAIR, OTHER = nftables.key("10.77.0.1", "10.77.0.2"), nftables.key("10.77.0.3", "10.77.0.2")
PAIR6 = nftables.key("fd77::1", "fd77::2")


class Sets:
    """The kernel's sets of pairs, which may refuse."""

    def __init__(self):
        self.known = {}
        self.refuses = False

    def members(self):
        return self.known

    def toward(self, ends):
        return {key: name for key, name in self.known.items() if key[len(key) // 2 :] in ends}

    def change(self, wanted):
        if self.refuses:
            raise KernelError("add to set delayed", 1)
        self.known = {key: name for key, name in {**self.known, **wanted}.items() if name}


@pytest.fixture
def sets():
    return Sets()


@pytest.fixture
def pairs(tmp_path, sets):
    return TreatedPairs(tmp_path, sets, random.Random(1))


def described(tmp_path, name="edge-1", ingress=None, **identity):
    folder = tmp_path / "nodes" / name
    folder.mkdir(parents=True, exist_ok=True)
    here = node(folder, name=name, **identity)
    layers.save(folder / links.STORE, {"base": links.body({}, ingress or {})})
    return here


def qualities(pairs):
    return {key: each.quality for key, each in pairs.by_key.items()}


def test_what_the_layers_of_all_nodes_ask_for_is_read(pairs, sets, tmp_path):
    asked = Quality(rate=8, delay=0.02, jitter=0.001, loss=0.1)
    described(tmp_path, ingress={"cloud-1": asked, "edge-2": Quality(rate=8)})

    pairs.load()

    assert qualities(pairs) == {PAIR: Quality(delay=0.02, jitter=0.001, loss=0.1)}
    assert sets.known == {PAIR: WHOLE}


def test_both_families_are_treated_alike(pairs, sets, tmp_path):
    six = {"address6": "fd77::2", "peers6": {"cloud-1": "fd77::1"}}
    described(tmp_path, ingress={"cloud-1": Quality(delay=0.02)}, **six)

    pairs.load()

    assert sets.known == {PAIR: STARTS, PAIR6: STARTS}


def test_a_load_forgets_nodes_that_are_gone_and_what_another_process_left(pairs, sets, tmp_path):
    here = described(tmp_path, ingress={"cloud-1": Quality(delay=0.02)})
    pairs.load()
    sets.known[OTHER] = STARTS
    (tmp_path / "nodes" / here.name / "node.json").unlink()

    pairs.load()

    assert (pairs.by_key, sets.known) == ({}, {})


def test_a_load_remembers_who_was_on_the_way(pairs, tmp_path):
    described(tmp_path, ingress={"cloud-1": Quality(delay=0.02)})
    pairs.load()
    due = pairs.by_key[PAIR].due(5)
    described(tmp_path, ingress={"cloud-1": Quality(delay=0.01)})

    pairs.load()

    assert pairs.by_key[PAIR].quality == Quality(delay=0.01)
    assert pairs.by_key[PAIR].due(6) == due


def test_a_broken_store_is_named_and_the_others_are_read(pairs, tmp_path):
    described(tmp_path, ingress={"cloud-1": Quality(delay=0.02)})
    described(tmp_path, "edge-0", address="10.77.0.9")
    (tmp_path / "nodes" / "edge-0" / links.STORE).write_text("{")

    with pytest.raises(DisturbanceError, match=r"edge-0: .*not a store of layers"):
        pairs.load()

    assert list(pairs.by_key) == [PAIR]


def test_a_request_changes_what_it_names_and_nothing_else(pairs, sets):
    pairs.set({"pairs": [[[PAIR.hex(), PAIR6.hex()], {"delay": 0.02}], [[OTHER.hex()], None]]})
    first = pairs.by_key[PAIR]

    pairs.set({"pairs": [[[PAIR6.hex()], {"loss": 0.1, "rate": 5}]]})

    assert pairs.by_key[PAIR] is first
    assert qualities(pairs) == {PAIR: Quality(delay=0.02), PAIR6: Quality(loss=0.1)}
    assert sets.known == {PAIR: STARTS, PAIR6: WHOLE}

    pairs.set({"pairs": [[[PAIR.hex()], None], [[PAIR6.hex()], {"loss": 1.0}]]})
    assert (pairs.by_key, sets.known) == ({}, {})


def test_what_the_kernel_refuses_is_not_believed(pairs, sets):
    sets.refuses = True

    with pytest.raises(KernelError):
        pairs.set({"pairs": [[[PAIR.hex()], {"delay": 0.02}]]})

    assert pairs.by_key == {}


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"pairs": 5},
        {"pairs": None},
        {"pairs": "ab"},
        {"pairs": [[]]},
        {"pairs": [["zz"]]},
        {"pairs": [[["zz"], None]]},
        {"pairs": [[["0a4d"], None]]},
        {"pairs": [[[5], None]]},
        {"pairs": [[5, None]]},
        {"pairs": [[[PAIR.hex()], 5]]},
        {"pairs": [[[PAIR.hex()], {"delay": "fast"}]]},
        {"pairs": [[[PAIR.hex()], {"delay": -1}]]},
        {"pairs": [[[PAIR.hex()], {"rate": float("inf")}]]},
        {"pairs": [[[PAIR.hex()], {"colour": 1}]]},
        {"pairs": [[[PAIR.hex()], {"jitter": 1, "distribution": 7}]]},
        {"pairs": [[[PAIR.hex()], {"jitter": 1, "distribution": ["a", "b"]}]]},
        {"pairs": [[[PAIR.hex()], {"jitter": 1, "distribution": [float("nan")] * 2}]]},
        {"pairs": [[[OTHER.hex()], {"delay": 1}], [[PAIR.hex()], {"distribution": {}}]]},
    ],
)
def test_a_bad_request_is_refused_in_words_and_changes_nothing(pairs, sets, request_):
    with pytest.raises(AgentError, match="bad pairs"):
        pairs.set(request_)

    assert (pairs.by_key, sets.known) == ({}, {})


anything = any_.recursive(
    any_.none() | any_.booleans() | any_.integers() | any_.floats() | any_.text(max_size=8),
    lambda inner: any_.lists(inner, max_size=3) | any_.dictionaries(any_.text(max_size=5), inner),
    max_leaves=8,
)
fields = any_.sampled_from([*Quality.__slots__, "colour"])
nearly = any_.tuples(
    any_.lists(any_.sampled_from([PAIR.hex(), "0a", ""]), max_size=2) | anything,
    any_.dictionaries(fields, any_.floats() | any_.integers() | anything, max_size=4) | anything,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(any_.dictionaries(any_.sampled_from(["pairs", "to"]), any_.lists(nearly) | anything))
def test_whatever_is_asked_there_is_an_answer_or_a_refusal(request_):
    pairs = TreatedPairs(None, Sets(), random.Random(1))
    for operation in (pairs.set, pairs.listing, pairs.losses):
        try:
            operation(request_)
        except AgentError as error:
            assert str(error)
    # What was taken can be worked with.
    for each in pairs.by_key.values():
        assert all(each.due(now) >= 0 for now in range(3))
        each.loses()


def test_losses_are_counted_for_the_pairs_that_are_named(pairs):
    pairs.set({"pairs": [[[PAIR.hex()], {"loss": 0.5}], [[PAIR6.hex()], {"delay": 0.02}]]})
    lost = sum(pairs.by_key[PAIR].loses() for _ in range(100))
    named = {"pairs": [PAIR.hex(), PAIR6.hex(), OTHER.hex()]}

    assert pairs.losses(named) == {"losses": {PAIR.hex(): [100, lost], PAIR6.hex(): [0, 0]}}

    pairs.set({"pairs": [[[PAIR.hex()], {"loss": 0.4}]]})
    assert pairs.losses(named)["losses"][PAIR.hex()] == [0, 0]


@pytest.mark.parametrize("request_", [{}, {"pairs": 5}, {"pairs": ["0a"]}, {"pairs": [[]]}])
def test_bad_pairs_have_no_losses(pairs, request_):
    with pytest.raises(AgentError, match="bad pairs"):
        pairs.losses(request_)


def test_a_listing_tells_what_the_kernel_lacks_and_what_it_has_for_nothing(pairs, sets):
    pairs.set({"pairs": [[[PAIR.hex(), PAIR6.hex()], {"delay": 0.02}]]})
    sets.known = {PAIR: WHOLE, PAIR6: STARTS, OTHER: STARTS}
    usual = Quality(delay=0.02).to_dict()

    found = pairs.listing({"to": ["0a4d0002", PAIR6[16:].hex()]})["pairs"]

    assert sorted(found) == sorted(
        [[PAIR.hex(), usual, False], [PAIR6.hex(), usual, True], [OTHER.hex(), None, True]]
    )
    assert pairs.listing({"to": ["0a4d0009"]}) == {"pairs": []}
