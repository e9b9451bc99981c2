# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import statistics
from dataclasses import replace

import pytest
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from ansible_collections.pkgctl.testbed.plugins.module_utils import netem, shaping
from ansible_collections.pkgctl.testbed.plugins.module_utils.netem import Netem
from ansible_collections.pkgctl.testbed.plugins.module_utils.netlink import attributes
from ansible_collections.pkgctl.testbed.plugins.module_utils.quality import Quality
from ansible_collections.pkgctl.testbed.plugins.module_utils.rtnl import (
    TCA_OPTIONS,
    Queue,
    Rates,
)
from ansible_collections.pkgctl.testbed.plugins.module_utils.shaping import ROOT, State

from .agents import node
from .witness import read

MBIT = 1_000_000
CLOUD = 0x11
HALF = 0xFFFFFFFF // 2


def options(message):
    """Return the options of a message about a discipline, as the kernel would keep them."""
    return attributes(message.body, 20)[TCA_OPTIONS]


def witnessed(settings):
    found = read(netem.put(3, 0x110001, 0x80110000, settings), tcmsg)
    return found.get_attr("TCA_KIND"), found.get_attr("TCA_OPTIONS")


def test_nothing_but_a_rate_needs_no_netem():
    assert netem.netem(Quality(rate=MBIT), 125_000, 50_000) is None
    assert netem.netem(Quality(loss=1.0), None, 0) is None
    assert netem.netem(Quality(duplicate=0.5), None, 0) is None


def test_times_are_nanoseconds_and_shares_32_bit_fractions():
    asked = Quality(delay=0.04, jitter=0.002, loss=0.5, duplicate=0.25, reorder=1.0, corrupt=0.5)

    found = netem.netem(asked, 125_000, 50_000)

    assert (found.delay, found.jitter) == (40_000_000, pytest.approx(2_000_000, abs=1024))
    assert found.loss == pytest.approx(HALF, abs=1)
    assert (found.reorder, found.corrupt) == (0xFFFFFFFF, pytest.approx(HALF, abs=1))
    # A kernel with another netem on the interface would refuse it; nftables doubles packets.
    assert found.duplicate == 0


def test_the_queue_holds_what_is_delayed_and_what_waits_for_the_class():
    found = netem.netem(Quality(delay=0.1), 1_250_000, 62_500)

    assert found.limit == -(-(125_000 + 62_500) // 1514) + 1


EVERY_SCATTER = ("normal", "uniform", "pareto", (-1.5, -0.5, 0.5, 1.5))


def test_the_jitter_says_which_table_it_goes_with_since_the_kernel_does_not():
    asked = [Quality(delay=0.1, jitter=0.01, distribution=each) for each in EVERY_SCATTER]

    found = [netem.netem(each, None, 0) for each in asked]

    assert len({each.jitter for each in found}) == len(EVERY_SCATTER)
    assert [each.jitter for each in found] == [pytest.approx(10_000_000, abs=1600)] * 4
    assert all(each.table for each in found)


def test_a_change_of_the_scatter_alone_is_a_change(here):
    now, then = (
        state(here, cloud_1=Quality(delay=0.1, jitter=0.01, distribution=each))
        for each in ("normal", "pareto")
    )

    assert shaping.plan(3, now, then).actions == ["set netem of class 11:1"]


@pytest.mark.parametrize("jitter", [1e-9, 1e-6, 5.0])
def test_a_jitter_stays_within_what_the_kernel_reckons_with(jitter):
    found = netem.netem(Quality(delay=6.0, jitter=jitter), None, 0)

    assert 1024 <= found.jitter < 1 << 31


@pytest.mark.parametrize("distribution", ["normal", "uniform", (-1.5, -0.5, 0.5, 1.5)])
def test_a_table_has_mean_0_and_deviation_1(distribution):
    table = [value / 8192 for value in netem.table(distribution)]

    assert statistics.fmean(table) == pytest.approx(0, abs=1e-3)
    four = statistics.pstdev([-1.5, 1.5, -0.5, 0.5]) * 0.775
    asked = 1 if isinstance(distribution, str) else four
    assert statistics.pstdev(table) == pytest.approx(asked, rel=0.01)
    assert table == sorted(table)


def test_paretos_table_leans_to_the_early_side_and_ends_where_16_bits_do():
    table = netem.table("pareto")

    assert statistics.median(table) < 0
    assert (min(table), max(table)) == (pytest.approx(-0.577 * 8192, abs=4), 32767)


def test_bursts_are_gilberts_model():
    found = netem.netem(Quality(loss=0.1, burst=5), None, 0)

    assert found.loss == 0
    assert [each / 0xFFFFFFFF for each in found.spells] == [
        pytest.approx(0.1 / (5 * 0.9)),
        pytest.approx(0.2),
    ]


def test_the_witness_reads_what_we_send():
    settings = Netem(
        limit=100, delay=40_000_000, jitter=2_000_000, loss=HALF, duplicate=7, reorder=8, corrupt=9
    )

    kind, found = witnessed(settings)

    assert kind == "netem"
    # The witness gives times in the kernel's ticks of 64 ns.
    assert (found["delay"] * 64, found["jitter"] * 64) == (40_000_000, 2_000_000)
    assert (found["limit"], found["loss"], found["duplicate"]) == (100, HALF, 7)
    assert (found["gap"], found.get_attr("TCA_NETEM_REORDER")["prob_reorder"]) == (1, 8)
    assert found.get_attr("TCA_NETEM_CORRUPT")["prob_corrupt"] == 9


def test_settings_are_read_back_as_they_were_sent_but_for_the_table():
    asked = Quality(
        delay=0.0123456789,
        jitter=0.001,
        loss=0.02,
        burst=4,
        duplicate=0.1,
        reorder=0.2,
        corrupt=0.3,
    )
    sent = netem.netem(asked, 125_000, 50_000)

    assert netem.read(options(netem.put(3, 0x110001, 0x80110000, sent))) == sent


@pytest.fixture
def here(tmp_path):
    return node(tmp_path, impairment="netem")


def state(here, **qualities):
    egress = {name.replace("_", "-"): quality for name, quality in qualities.items()}
    return shaping.wanted_state(here, egress, {}, impaired=here.has_netem)


def test_with_netem_the_sender_acts_on_the_delay_too(here):
    found = state(here, cloud_1=Quality(delay=0.04))

    assert found.classes == {CLOUD: Rates(1_250_000_000, 1_250_000_000)}
    assert found.netems[CLOUD].delay == 40_000_000
    assert found.peers


def test_below_an_access_rate_an_unbounded_peer_with_a_delay_has_the_access_rate(tmp_path):
    bounded = node(tmp_path, access=10 * MBIT, impairment="netem")

    found = state(bounded, cloud_1=Quality(delay=0.04))

    assert found.classes[CLOUD] == Rates(305, 1_250_000)


def test_netem_comes_under_the_queue_of_its_class(here):
    then = state(here, cloud_1=Quality(rate=MBIT, delay=0.04))

    found = shaping.plan(3, State(), then).before

    assert [each.what for each in found] == [
        "put HTB on the link",
        "set class 7067:11",
        "set the queue of class 7067:11",
        "set netem of class 11:1",
    ]
    assert shaping.plan(3, then, then).actions == []


def test_only_the_netem_that_changed_is_touched_and_in_place(here):
    now = state(here, cloud_1=Quality(rate=MBIT, loss=0.1), edge_2=Quality(rate=MBIT, loss=0.2))
    then = state(here, cloud_1=Quality(rate=MBIT, loss=0.3), edge_2=Quality(rate=MBIT, loss=0.2))

    assert shaping.plan(3, now, then).actions == ["set netem of class 11:1"]


def test_a_netem_that_goes_lets_go_of_what_it_holds_first(here):
    now = state(here, cloud_1=Quality(rate=MBIT, loss=0.1))
    then = state(here, cloud_1=Quality(rate=MBIT))

    found = shaping.plan(3, now, then)

    assert found.actions == [
        "set netem of class 11:1",
        "delete netem of class 11:1",
        "set the queue of class 7067:11",
    ]
    freed = netem.read(options(found.before[0]))
    assert (freed.delay, freed.loss) == (0, 0)


def test_the_planner_is_the_same_for_both_but_for_who_delays(tmp_path):
    asked = {"cloud-1": Quality(rate=MBIT, delay=0.04, loss=0.02)}
    kernels, ours = (
        shaping.wanted_state(node(tmp_path), asked, {}, impaired=impaired)
        for impaired in (True, False)
    )

    assert (kernels.classes, kernels.queues, kernels.peers) == (
        ours.classes,
        ours.queues,
        ours.peers,
    )
    assert (list(kernels.netems), list(ours.netems)) == ([CLOUD], [])
    assert kernels.queues[CLOUD] == Queue(32 << 10)
    assert f"class 11: {kernels.netems[CLOUD].show()}\n" in kernels.show()
    assert ROOT >> 16 == 0x7067


def test_packets_that_fare_differently_are_not_hidden_in_super_packets(here):
    fast = Quality(rate=1000 * MBIT, delay=0.01)
    plain, lossy = (
        state(here, cloud_1=each).queues[CLOUD] for each in (fast, replace(fast, loss=0.01))
    )

    assert plain.bucket == 250_000
    assert lossy.bucket == 3028
    # What differs is seen in what the kernel tells.
    assert lossy != plain
    assert abs(lossy.limit - plain.limit) == 1
