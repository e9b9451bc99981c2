# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import random

import pytest

from pkgctl import topology
from pkgctl.experiment import verify
from pkgctl.nodeside import Quality

FAST = Quality()
NET = topology.load("three-sites")


def asked(there: Quality, back: Quality = FAST) -> verify.Verdict:
    return verify.asked("a", "b", {"a": {"b": there}, "b": {"a": back}})


def test_all_pairs_are_measured_once_if_all_are_asked_for():
    pairs = verify.choose(NET, "all", random.Random(1))

    assert len({frozenset(pair) for pair in pairs}) == len(pairs) == 7 * 6 // 2


def test_no_pair_is_measured_if_none_is_asked_for():
    assert verify.choose(NET, "none", random.Random(1)) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_sample_covers_every_pair_of_sites_and_follows_from_the_seed(seed):
    sites = {node.name: node.site for node in NET.nodes}

    pairs = verify.choose(NET, "sample", random.Random(seed))

    assert len(pairs) == verify.MOST_SAMPLED
    assert len({frozenset(sites[end] for end in pair) for pair in pairs}) == 6
    assert pairs == verify.choose(NET, "sample", random.Random(seed))


def test_no_node_stands_twice_in_a_round():
    pairs = verify.choose(NET, "all", random.Random(1))

    rounds = verify.rounds(pairs)

    assert sorted(pair for together in rounds for pair in together) == sorted(pairs)
    for together in rounds:
        ends = [end for pair in together for end in pair]
        assert len(ends) == len(set(ends))


def test_a_round_trip_is_asked_of_both_ways():
    pair = asked(Quality(delay=0.010), Quality(delay=0.030))

    assert pair.asked_rtt == pytest.approx(0.040)
    assert pair.tolerance_rtt == 0.002


def test_the_tolerance_grows_with_the_delay_and_the_jitter():
    long = asked(Quality(delay=0.1), Quality(delay=0.1))
    shaky = asked(Quality(delay=0.1, jitter=0.01), Quality(delay=0.1))

    assert long.tolerance_rtt == pytest.approx(0.004)
    assert shaky.tolerance_rtt == pytest.approx(0.004 + 1.2533 * 2.6 * 0.01 / 5)


JUDGED = {
    "as asked": (Quality(delay=0.02), {"rtt_p50": 0.0213}, "pass", ""),
    "too slow": (Quality(delay=0.02), {"rtt_p50": 0.0227}, "fail", "round trip 22.7 ms"),
    "too fast": (Quality(delay=0.02), {"rtt_p50": 0.0173}, "fail", "asked 20.0 ± 2.0 ms"),
    "no answer": (Quality(delay=0.02), {"rtt_p50": None}, "fail", "no packet came back"),
    "down and silent": (Quality(loss=1.0), {"rtt_p50": None}, "pass", "no packet came back"),
    "rate kept": (Quality(rate=10**7), {"rtt_p50": 0.0, "goodput": 9.5e6}, "pass", ""),
    "rate missed": (Quality(rate=10**7), {"rtt_p50": 0.0, "goodput": 9e6}, "fail", "goodput 9.00"),
    "rate exceeded": (Quality(rate=10**7), {"rtt_p50": 0.0, "goodput": 2e7}, "fail", "20.00"),
    "loss kept": (Quality(loss=0.01), {"rtt_p50": 0.0, "loss": 0.015}, "pass", ""),
    "loss missed": (Quality(loss=0.01), {"rtt_p50": 0.0, "loss": 0.03}, "fail", "loss 3.00%"),
}


@pytest.mark.parametrize(
    ("quality", "measured", "verdict", "reason"), JUDGED.values(), ids=JUDGED.keys()
)
def test_a_verdict_compares_what_was_measured_with_what_was_asked(
    quality, measured, verdict, reason
):
    found = verify.judge(asked(quality), measured)

    assert found.verdict == verdict
    assert reason in found.reason


def test_a_clean_link_is_filled_by_one_stream_and_a_lossy_one_by_more():
    clean = Quality(rate=2 * 10**7, delay=0.012)
    lossy = Quality(rate=2 * 10**7, delay=0.012, loss=0.001)

    assert verify.streams(asked(clean, clean)) == 1
    assert verify.streams(asked(lossy, lossy)) == 3


@pytest.mark.parametrize(
    "quality",
    [
        Quality(),
        Quality(rate=10**9),
        Quality(rate=10**7, delay=0.3),
        Quality(rate=10**8, delay=0.05, loss=0.02),
    ],
    ids=["unshaped", "too fast for this machine", "too long", "too lossy"],
)
def test_a_rate_that_streams_cannot_show_is_not_measured(quality):
    assert verify.streams(asked(quality, quality)) == 0


def test_a_loss_too_small_to_see_in_a_thousand_packets_is_not_measured():
    assert verify.has_measurable_loss(asked(Quality(loss=0.01)))
    assert not verify.has_measurable_loss(asked(Quality(loss=0.001)))
    assert not verify.has_measurable_loss(asked(Quality(loss=1.0)))
