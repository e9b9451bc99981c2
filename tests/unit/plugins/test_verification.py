# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from ansible_collections.pkgctl.testbed.plugins.module_utils import verdicts, verification
from ansible_collections.pkgctl.testbed.plugins.module_utils.quality import Quality

SITES = {
    **dict.fromkeys(("c1", "c2"), "cloud"),
    **dict.fromkeys(("a1", "a2", "a3"), "edge-a"),
    **dict.fromkeys(("b1", "b2"), "edge-b"),
}
FAST = Quality()


def ask(there: Quality, back: Quality = FAST) -> verdicts.Verdict:
    return verdicts.Verdict.of("a", "b", there, back)


def asked_of(pairs: list[verification.Pair], **numbers: object) -> dict:
    matrix = {a: {b: Quality(**numbers) for b in SITES if a != b} for a in SITES}  # type: ignore[arg-type]
    return verification.ask(pairs, matrix)


def test_all_directed_pairs_are_measured_if_all_are_asked_for():
    pairs = verification.choose(SITES, "all", random.Random(1))

    assert len(set(pairs)) == len(pairs) == 7 * 6


def test_no_pair_is_measured_if_none_is_asked_for():
    assert verification.choose(SITES, "none", random.Random(1)) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_sample_covers_every_ordered_pair_of_sites_and_follows_from_the_seed(seed):
    pairs = verification.choose(SITES, "sample", random.Random(seed))

    assert {(SITES[one], SITES[other]) for one, other in pairs} == {
        (one, other) for one in SITES.values() for other in SITES.values()
    }
    assert len(pairs) == 9
    assert pairs == verification.choose(SITES, "sample", random.Random(seed))


@pytest.mark.parametrize("count", [1, 4, 20])
def test_a_sample_has_as_many_pairs_as_are_wanted(count):
    pairs = verification.choose(SITES, "sample", random.Random(1), count)

    assert len(set(pairs)) == count


def test_named_pairs_are_read():
    assert verification.read_pairs(["a1:c1", "c1:a1"], SITES) == [("a1", "c1"), ("c1", "a1")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a1", "pair: 'a1' is no FROM:TO; write edge-1:cloud-1"),
        ("a1:a1", "pair: 'a1:a1' is no FROM:TO; write edge-1:cloud-1"),
        ("a1:", "pair: 'a1:' is no FROM:TO; write edge-1:cloud-1"),
        ("a1:mars", "pair: there is no node 'mars'"),
    ],
)
def test_what_is_no_pair_is_refused_in_one_line(text, message):
    with pytest.raises(ValueError) as caught:
        verification.read_pairs([text], SITES)

    assert str(caught.value) == message


@pytest.mark.parametrize("value", ["10", "soon", "100ms", -1])
def test_a_budget_that_is_no_time_or_too_short_is_refused(value):
    with pytest.raises(ValueError, match=r"^budget: "):
        verification.read_budget(value)


pairs_of_sites = some.lists(
    some.tuples(some.sampled_from(sorted(SITES)), some.sampled_from(sorted(SITES))).filter(
        lambda pair: pair[0] != pair[1]
    ),
    unique=True,
)


@settings(max_examples=50, deadline=None)
@given(pairs=pairs_of_sites, budget=some.floats(1, 60), rate=some.sampled_from([None, 10**6]))
def test_nothing_is_used_twice_in_a_round_and_the_time_suffices(pairs, budget, rate):
    asked = asked_of(pairs, rate=rate, delay=0.01, loss=0.01)

    found = verification.schedule(asked, budget, SITES)

    assert found.seconds <= budget
    for one in found.rounds:
        assert len({each.what for each in one.measurements}) == 1
        ends = [end for each in one.measurements for end in each.pair]
        assert len(ends) == len(set(ends))
        if one.what == verification.GOODPUT:
            crossed = [
                {SITES[end] for end in each.pair}
                for each in one.measurements
                if len({SITES[end] for end in each.pair}) == 2
            ]
            assert sum(map(len, crossed)) == len(set().union(*crossed)) if crossed else True


@settings(max_examples=50, deadline=None)
@given(pairs=pairs_of_sites)
def test_with_time_enough_everything_is_measured_once_and_a_round_trip_once_for_both_ways(pairs):
    found = verification.schedule(asked_of(pairs, rate=10**6, loss=0.01), 1e6)

    done = [(each.what, each.pair) for one in found.rounds for each in one.measurements]
    assert found.left_out == []
    assert len(done) == len(set(done))
    assert {pair for what, pair in done if what == "goodput"} == set(pairs)
    trips = [frozenset(pair) for what, pair in done if what == "rtt"]
    assert sorted(map(sorted, trips)) == sorted(map(sorted, {frozenset(pair) for pair in pairs}))


def test_what_there_is_no_time_for_is_left_out_and_said():
    asked = asked_of([("a1", "c1"), ("a1", "c2"), ("a1", "b1")], rate=10**7)

    found = verification.schedule(asked, 2.0)
    rows = verification.conclude(asked, {}, found.left_out)

    assert {each.pair for each in found.left_out} == {("a1", "c2"), ("a1", "b1")}
    assert {row.verdict for row in rows} == {"unmeasured"}
    assert "no time left" in rows[-1].reason


def test_a_probe_never_takes_more_than_a_quarter_of_a_slow_link():
    for each in verification.measurements(("a", "b"), ask(Quality(rate=64_000, loss=0.05))):
        options = dict(zip(each.options[::2], each.options[1::2], strict=True))
        if each.what == "rtt":
            assert 106 * 8 / float(options["--interval"]) <= 64_000 / 4 + 1
        if each.what == "loss":
            assert 66 * 8 * float(options["--pace"]) <= 64_000 / 4 + 1


def test_a_clean_link_is_filled_by_one_stream_and_a_lossy_one_by_more():
    clean = Quality(rate=2 * 10**7, delay=0.012)
    lossy = replace(clean, loss=0.001)

    assert verification.streams(ask(clean, clean)) == 1
    assert verification.streams(ask(lossy, lossy)) == 3


UNFILLABLE = {
    "unshaped": Quality(),
    "too fast for this machine": Quality(rate=10**9),
    "too long": Quality(rate=10**7, delay=0.3),
    "too lossy": Quality(rate=10**8, delay=0.05, loss=0.02),
    "bursts": Quality(rate=10**7, loss=0.02, burst=5),
    "overtaking": Quality(rate=10**7, delay=0.01, reorder=0.1),
    "cut": Quality(rate=10**7, loss=1),
}


@pytest.mark.parametrize("quality", UNFILLABLE.values(), ids=UNFILLABLE.keys())
def test_a_rate_that_streams_cannot_show_is_not_measured_and_says_why(quality):
    assert verification.streams(ask(quality, quality)) == 0
    assert verification.why_no_goodput(ask(quality, quality)) not in ("", "not measured")


def test_the_answers_of_probes_are_read():
    trip = {"count": 25, "lost": 2, "p50": 0.02, "p95": 0.03}

    assert verification.read_answers("rtt", [trip]) == {
        "rtt_p50": 0.02, "rtt_p95": 0.03, "trips": 23, "pings": 25,
    }  # fmt: skip
    assert verification.read_answers("loss", [{"loss": 0.1, "count": 1000}]) == {
        "loss": 0.1,
        "loss_packets": 1000,
    }
    streams = [{"goodput": 1e6, "seconds": 0.6}, {"goodput": 2e6, "seconds": 0.5}]
    assert verification.read_answers("goodput", streams) == {"goodput": 3e6, "seconds": 0.5}
    assert verification.read_answers("goodput", [{}, {"goodput": 1.0}]) == {}
    assert verification.read_output('hello\n{"p50": 1}\nbye\n') == {"p50": 1}
    assert verification.read_output("probe.py: no\n") == {}


def test_a_round_trip_counts_for_both_directions():
    asked = asked_of([("a1", "c1"), ("c1", "a1")], delay=0.01)
    found = {(("a1", "c1"), "rtt"): {"rtt_p50": 0.0203, "trips": 25}}

    rows = verification.conclude(asked, found)

    assert [row.rtt_p50 for row in rows] == [0.0203, 0.0203]
    assert [row.verdict for row in rows] == ["pass", "pass"]


def test_only_what_failed_is_measured_again():
    asked = asked_of([("a1", "c1"), ("a2", "c2")], delay=0.01)
    found = {
        (("a1", "c1"), "rtt"): {"rtt_p50": 0.02, "trips": 25},
        (("a2", "c2"), "rtt"): {"rtt_p50": 0.05, "trips": 25},
    }

    assert list(verification.again(asked, verification.conclude(asked, found))) == [("a2", "c2")]


def test_a_pair_that_is_excused_has_no_verdict_but_the_reason():
    asked = asked_of([("a1", "c1")], delay=0.01)

    (row,) = verification.conclude(asked, {}, (), {("a1", "c1"): "c1 is crashed"})

    assert (row.verdict, row.reason) == ("unmeasured", "c1 is crashed")
