# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import socket

import pytest
from pyroute2.netlink.nfnetlink.nftsocket import nft_rule_msg

from ansible_collections.pkgctl.testbed.plugins.module_utils import doubling, nftables, shaping
from ansible_collections.pkgctl.testbed.plugins.module_utils.quality import Quality
from ansible_collections.pkgctl.testbed.plugins.module_utils.shaping import State

from .agents import node
from .witness import read

CLOUD, EDGE = (nftables.key(each) for each in ("10.77.0.1", "10.77.0.3"))
CLOUD6 = nftables.key("fd77:7067::1")
HALF = doubling.threshold(0.5)


@pytest.fixture
def here(tmp_path):
    return node(tmp_path, impairment="netem", address6="fd::2", peers6={"cloud-1": "fd77:7067::1"})


def whats(now, then):
    return [each.what for each in doubling.change(now, then)]


def families(messages):
    return [message.body[0] for message in messages]


def test_what_is_doubled_already_takes_no_message():
    assert doubling.change({CLOUD: HALF}, {CLOUD: HALF}) == []
    assert doubling.change({}, {}) == []


def test_each_family_has_a_table_with_a_rule_for_each_address():
    made = doubling.change({}, {CLOUD: HALF, CLOUD6: HALF, EDGE: HALF})

    assert [each.what for each in made] == [
        *("make table pkgctl-double", "make chain doubled"),
        *("make a rule in doubled", "make a rule in doubled"),
        *("make table pkgctl-double", "make chain doubled", "make a rule in doubled"),
    ]
    assert families(made) == [socket.AF_INET] * 4 + [socket.AF_INET6] * 3


def test_a_change_makes_the_tables_anew_and_the_last_takes_them_away():
    assert whats({CLOUD: HALF}, {CLOUD: 7})[:2] == [
        "delete table pkgctl-double",
        "make table pkgctl-double",
    ]
    assert whats({CLOUD: HALF, CLOUD6: HALF}, {}) == ["delete table pkgctl-double"] * 2


def test_the_witness_reads_a_rule_in_nfts_own_words():
    rule = doubling.change({}, {CLOUD: HALF})[-1]

    found = read(rule, nft_rule_msg)

    names = [each.get_attr("NFTA_EXPR_NAME") for each in found.get_attr("NFTA_RULE_EXPRESSIONS")]
    assert names == ["payload", "cmp", "numgen", "byteorder", "cmp", "payload", "dup"]


class Listing:
    """A socket over which a kernel lists the rules that it was sent."""

    def __init__(self, messages):
        self._rules = [each.body for each in messages if "rule" in each.what]

    def dump(self, kind, request, what):
        return [body for body in self._rules if body[0] == request[0]]


@pytest.fixture
def kernel(monkeypatch):
    monkeypatch.setattr(nftables, "exists", lambda *_: True)
    return Listing


@pytest.mark.parametrize("asked", [{}, {CLOUD: HALF}, {CLOUD: 1, EDGE: HALF, CLOUD6: 0xFFFFFFFF}])
def test_what_was_sent_is_read_back(kernel, asked):

    assert doubling.read(kernel(doubling.change({}, asked))) == asked


def test_a_rule_that_is_not_ours_is_seen_as_something_else(kernel):
    foreign = nftables.rule(doubling.TABLE, "doubled", family=socket.AF_INET)

    found = doubling.read(kernel([foreign]))

    assert found
    assert CLOUD not in found


def test_packets_to_all_addresses_of_a_peer_are_doubled(here):
    found = shaping.wanted_state(here, {"cloud-1": Quality(duplicate=0.5)}, {}, impaired=True)

    assert found.doubles == {CLOUD: HALF, CLOUD6: HALF}
    assert found.show().count("50.0000% doubled") == 2
    assert "make a rule in doubled" in shaping.plan(3, State(), found).actions


def test_the_delay_line_doubles_by_itself(here):
    found = shaping.wanted_state(here, {"cloud-1": Quality(duplicate=0.5)}, {})

    assert found.doubles == {}


@pytest.mark.parametrize("quality", [Quality(loss=1.0, duplicate=0.5), Quality(delay=0.1)])
def test_nothing_is_doubled_toward_a_peer_that_is_cut_off_or_asks_for_none(here, quality):
    assert shaping.wanted_state(here, {"cloud-1": quality}, {}, impaired=True).doubles == {}
