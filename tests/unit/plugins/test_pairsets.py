# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import nftables, pairsets
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import (
    DisturbanceError,
    KernelError,
)
from ansible_collections.pkgctl.testbed.plugins.module_utils.pairsets import (
    STARTS,
    WHOLE,
    PairSets,
)

from .kernelsets import Kernel

PAIR, OTHER = nftables.key("10.77.0.1", "10.77.0.2"), nftables.key("10.77.0.3", "10.77.0.2")
PAIR6 = nftables.key("fd77::1", "fd77::2")
EMPTY = {"delayed": set(), "delayed6": set(), "copied": set(), "copied6": set()}


@pytest.fixture
def kernel():
    return Kernel()


@pytest.fixture
def sets(kernel):
    return PairSets(kernel)


def test_the_table_is_made_where_there_is_none(kernel, sets):
    assert kernel.sets == EMPTY
    assert sets.members() == {}


def test_pairs_go_to_the_set_of_their_family_and_from_one_set_to_another(kernel, sets):
    sets.change({PAIR: STARTS, PAIR6: WHOLE, OTHER: STARTS})
    assert kernel.sets == {**EMPTY, "delayed": {PAIR, OTHER}, "copied6": {PAIR6}}

    sets.change({PAIR: WHOLE, PAIR6: None})

    assert kernel.sets == {**EMPTY, "delayed": {OTHER}, "copied": {PAIR}}
    assert sets.members() == {OTHER: STARTS, PAIR: WHOLE}


def test_only_what_differs_is_told_and_all_at_once(kernel, sets):
    sets.change({PAIR: STARTS, OTHER: STARTS})
    before = list(kernel.transactions)

    sets.change({PAIR: STARTS, OTHER: STARTS})
    sets.change({PAIR6: None})
    assert kernel.transactions == before

    sets.change({PAIR: WHOLE, OTHER: None})
    # Two out of one set, one into another.
    assert kernel.transactions == [*before, 2]


def test_what_another_process_left_in_the_sets_is_known(kernel, sets):
    sets.change({PAIR: STARTS, PAIR6: WHOLE})

    assert PairSets(kernel).members() == {PAIR: STARTS, PAIR6: WHOLE}


def test_sets_that_somebody_changed_are_read_anew(kernel, sets):
    sets.change({PAIR: STARTS})
    kernel.sets["delayed"] = {OTHER}

    sets.change({PAIR: WHOLE, OTHER: STARTS})

    assert kernel.sets == {**EMPTY, "delayed": {OTHER}, "copied": {PAIR}}


def test_a_table_that_somebody_deleted_is_made_again(kernel, sets):
    sets.change({PAIR: STARTS})
    kernel.sets = None
    sets._read_at = 0.0

    assert sets.members() == {}
    sets.change({PAIR: STARTS})
    assert kernel.sets["delayed"] == {PAIR}


def test_a_refusal_that_stays_is_told_and_changes_nothing(kernel, sets, monkeypatch):
    def refuse(_):
        raise KernelError("add to set delayed", 1)

    monkeypatch.setattr(kernel, "transaction", refuse)

    with pytest.raises(KernelError, match="add to set delayed: Operation not permitted"):
        sets.change({PAIR: STARTS})
    assert sets.members() == {}


def test_one_listing_serves_many_who_ask_at_once(kernel, sets, monkeypatch):
    sets._read_at = 0.0
    before = kernel.dumps
    monkeypatch.setattr(pairsets.time, "monotonic", lambda: 1000.0)

    for _ in range(50):
        sets.members()

    assert kernel.dumps == before + 4


def test_a_table_of_somebody_else_is_named_and_left_alone(kernel, sets):
    kernel.marker = b"theirs"

    with pytest.raises(DisturbanceError, match="pkgctl-delay that is not ours"):
        PairSets(kernel)
    assert len(kernel.transactions) == 1


@pytest.mark.parametrize("flagged", [False, True])
def test_keys_are_read_whether_or_not_the_kernel_marks_what_is_nested(flagged):
    keys = [nftables.key("10.77.0.1", f"10.77.0.{number}") for number in range(9)]
    (message,) = nftables.add_elements("", "delayed", keys)

    class Listing:
        def dump(self, *_, what):
            return [message.body if flagged else message.body.replace(b"\1\x80", b"\1\0")]

    assert nftables.keys(Listing(), "", "delayed", 8) == keys
