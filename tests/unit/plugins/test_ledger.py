# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pkgctl.testbed.plugins.module_utils import ledger
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import AgentError
from ansible_collections.pkgctl.testbed.plugins.module_utils.ledger import (
    Book,
    Ledger,
    Step,
    lease_record,
)
from ansible_collections.pkgctl.testbed.plugins.module_utils.times import DEFAULT_LEASE, Times


def step(layer="slow", node="edge-1", kind="quota", cpu=0.2, **times):
    return Step(node, kind, layer, {"cpu": cpu}, Times(**times))


def armed(timeline, one, ends=100.0):
    kept = {"timeline": timeline, "seconds": 50.0, "ends": ends}
    return {"do": "arm", **kept, "step": one.to_dict()}


def started(timeline, t0=10.0, *, keep=False):
    return {"do": "start", "timeline": timeline, "t0": t0, "keep": keep, "counted": {}}


def added_up(records):
    made = Ledger()
    for record in records:
        made.apply(record)
    return made


def test_an_armed_step_begins_with_its_timeline():
    found = added_up([armed("run", step()), started("run")])

    assert found.armed == {}
    play = found.plays["edge-1", "quota", "slow"]
    assert (play.timeline, play.step, play.origin) == ("run", step(), 10.0)


def test_a_kept_timeline_stays_armed():
    found = added_up([armed("run", step()), started("run", keep=True)])

    assert list(found.armed["run"].steps.values()) == [step()]


def test_a_step_armed_again_takes_the_place_of_the_one_before():
    found = added_up([armed("run", step(cpu=0.2)), armed("run", step(cpu=0.3))])

    assert [one.body["cpu"] for one in found.armed["run"].steps.values()] == [0.3]


def test_a_layer_of_a_node_is_played_by_one_timeline():
    found = added_up(
        [armed("one", step()), started("one"), armed("two", step()), started("two", 20.0)]
    )

    assert [play.timeline for play in found.plays.values()] == ["two"]


def test_a_step_that_waits_has_no_origin_until_its_condition_is_met():
    records = [armed("run", step(when="requests > 5", duration=3.0)), started("run")]
    assert added_up(records).plays["edge-1", "quota", "slow"].ends is None

    records.append({"do": "met", "slot": ["edge-1", "quota", "slow"], "at": 25.0})

    assert added_up(records).plays["edge-1", "quota", "slow"].ends == 28.0


def test_times_of_another_boot_are_shifted():
    record = {**lease_record("edge-1", "slow", 60.0, 100.0), "shift": -90.0}

    assert added_up([record]).leases["edge-1", "slow"].ends == 10.0


@pytest.mark.parametrize(
    ("times", "lease", "needed"),
    [
        ({}, DEFAULT_LEASE, True),
        ({"lease": None}, None, False),
        ({"duration": 3.0}, DEFAULT_LEASE, False),
        ({"duration": 3.0, "lease": None}, DEFAULT_LEASE, False),
        ({"duration": 3.0, "lease": None, "when": "requests > 5"}, DEFAULT_LEASE, True),
        ({"lease": 20.0}, 20.0, True),
    ],
)
def test_what_could_stay_or_wait_for_ever_needs_a_lease(times, lease, needed):
    assert (step(**times).lease, step(**times).needs_lease) == (lease, needed)


NAMES = st.sampled_from(["a", "b", "c"])
SLOTS = st.tuples(NAMES, st.just("quota"), NAMES)
TIMES = st.floats(0.0, 1e6)
STEPS = st.builds(
    lambda slot, cpu, duration, when: step(
        slot[2], slot[0], slot[1], cpu, duration=duration, when=when
    ),
    SLOTS,
    st.floats(0.1, 1.0),
    st.none() | st.floats(0.1, 100.0),
    st.none() | st.just("requests > 5"),
)
RECORDS = st.one_of(
    st.builds(armed, NAMES, STEPS, TIMES),
    st.builds(lambda name, t0, keep: started(name, t0, keep=keep), NAMES, TIMES, st.booleans()),
    st.builds(lambda name: {"do": "disarm", "timeline": name}, NAMES),
    st.builds(lambda slot, at: {"do": "met", "slot": list(slot), "at": at}, SLOTS, TIMES),
    st.builds(lambda slot: {"do": "end", "slot": list(slot)}, SLOTS),
    st.builds(lambda slot: {"do": "done", "slot": list(slot)}, SLOTS),
    st.builds(lease_record, NAMES, NAMES, st.none() | TIMES, st.none() | TIMES),
    st.builds(
        lambda node, layer: {"do": "unlease", "node": node, "layer": layer},
        NAMES,
        st.none() | NAMES,
    ),
    st.dictionaries(st.sampled_from(["do", "slot", "timeline", "step"]), st.integers() | NAMES),
)


def shown(one):
    return sorted(map(str, one.records()))


@given(st.lists(RECORDS, max_size=30))
def test_a_ledgers_own_records_add_up_to_the_same_ledger(records):
    found = added_up(records)

    assert shown(added_up(found.records())) == shown(found)


def test_a_book_is_the_same_when_it_is_opened_again(tmp_path):
    path = tmp_path / "journal.jsonl"
    book = Book(path)
    book.note(armed("run", step()), started("run", keep=True))
    book.note(lease_record("edge-1", "slow", 60.0, 100.0))

    assert shown(Book(path)) == shown(book)


def test_what_is_over_is_over_though_nobody_can_write_it_down(tmp_path, monkeypatch):
    path = tmp_path / "journal.jsonl"
    book = Book(path)
    book.note(armed("run", step()), started("run"))

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(AgentError, match="No space left"):
            book.note({"do": "done", "slot": list(step().slot)})
        assert list(book.plays) == [step().slot]
        book.settle({"do": "done", "slot": list(step().slot)})
        assert list(book.plays) == []
        assert list(Book(path).plays) == [step().slot]

    book.settle(lease_record("edge-1", "slow", 60.0, 100.0))
    assert Book(path).leases["edge-1", "slow"].ends == 100.0


def test_a_journal_that_grew_is_written_anew(tmp_path, monkeypatch):
    path = tmp_path / "journal.jsonl"
    book = Book(path)
    monkeypatch.setattr(ledger, "_LONGEST", 1)
    for n in range(200):
        book.note(lease_record("edge-1", "slow", 60.0, float(n)))

    assert len(path.read_text().splitlines()) < 70
    assert Book(path).leases["edge-1", "slow"].ends == 199.0
