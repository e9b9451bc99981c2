# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import nftables, rtnl, shaping
from ansible_collections.pkgctl.testbed.plugins.module_utils.quality import Quality
from ansible_collections.pkgctl.testbed.plugins.module_utils.rtnl import Queue, Rates
from ansible_collections.pkgctl.testbed.plugins.module_utils.shaping import ROOT, State

from .agents import node

MBIT = 1_000_000
# The numbers of the peers in agents.node are 1 and 3; classes of peers begin at 0x10.
CLOUD, EDGE = 0x11, 0x13
CLOUD_KEY, EDGE_KEY = nftables.key("10.77.0.1"), nftables.key("10.77.0.3")


def asked(egress=None, ingress=None):
    return egress or {}, ingress or {}


def wanted(here, both):
    return shaping.wanted_state(here, *both)


def state(here, **egress):
    return wanted(here, asked({key.replace("_", "-"): q for key, q in egress.items()}))


@pytest.fixture
def here(tmp_path):
    return node(tmp_path)


@pytest.fixture
def bounded(tmp_path):
    return node(tmp_path, access=10 * MBIT)


def test_a_node_of_which_nothing_is_asked_needs_nothing(here):
    assert wanted(here, asked()) == State()


def test_a_peer_with_a_rate_has_a_class_a_queue_and_a_place_in_the_map(here):
    found = state(here, cloud_1=Quality(rate=8 * MBIT))

    assert found.classes == {CLOUD: Rates(MBIT, MBIT)}
    assert found.queues == {CLOUD: shaping.queue(MBIT, 0.0)}
    assert found.peers == {CLOUD_KEY: CLOUD}
    assert found.table


def test_delay_jitter_and_loss_are_nothing_to_the_sender(here):
    assert state(here, cloud_1=Quality(delay=0.1, jitter=0.01, loss=0.2)) == State()


def test_a_peer_from_which_nothing_arrives_is_cut(here):
    down = Quality(loss=1.0)

    found = wanted(here, asked({"cloud-1": down}, {"edge-2": down}))

    assert found == State(cut=frozenset({EDGE_KEY}), table=True)


def test_a_layer_may_name_a_peer_that_has_gone(here):
    gone = {"old-1": Quality(rate=MBIT, loss=1.0)}

    assert wanted(here, asked(gone, gone)) == State()


def test_an_access_rate_alone_needs_no_table(bounded):
    found = wanted(bounded, asked())

    access = 10 * MBIT // 8
    assert found.classes == {1: Rates(access, access), 2: Rates(access // 4096, access)}
    assert found.queues == {2: shaping.queue(access, 0.0)}
    assert (found.peers, found.table) == ({}, False)


def test_all_that_arrives_shares_one_class_by_default(tmp_path):
    found = shaping.arriving(node(tmp_path, access_down=10 * MBIT))

    rate = 10 * MBIT // 8
    assert found == State({2: Rates(rate, rate)}, {2: shaping.queue(rate, 0.0)})
    assert shaping.plan(3, State(), found).actions == [
        "put HTB on the link",
        "set class 7067:2",
        "set the queue of class 7067:2",
    ]
    (root, *_) = shaping.plan(3, State(), found).before
    assert root.body == rtnl.htb(3, ROOT, 2).body


def test_what_arrives_at_a_node_without_an_access_rate_is_not_bounded(bounded):
    assert shaping.arriving(bounded) == State()


def test_a_rate_of_what_arrives_is_changed_in_place(tmp_path):
    now, then = (shaping.arriving(node(tmp_path, access_down=rate * MBIT)) for rate in (10, 20))

    found = shaping.plan(3, now, then)

    assert found.actions == ["set class 7067:2", "set the queue of class 7067:2"]
    assert shaping.plan(3, then, State()).actions == ["delete HTB"]


def test_below_an_access_rate_only_slower_peers_have_classes(bounded):
    found = state(bounded, cloud_1=Quality(rate=2 * MBIT), edge_2=Quality(rate=50 * MBIT))

    assert sorted(found.classes) == [1, 2, CLOUD]
    # Each peer is owed a share, so that all together are owed no more than the access rate.
    assert found.classes[CLOUD] == Rates(305, 250_000)
    assert found.peers == {CLOUD_KEY: CLOUD}


def test_no_class_is_owed_less_than_a_kilobit(tmp_path):
    slow = node(tmp_path, access=64_000)

    assert wanted(slow, asked()).classes[2] == Rates(125, 8000)


def test_a_rate_below_a_byte_is_a_byte(here):
    assert state(here, cloud_1=Quality(rate=3)).classes == {CLOUD: Rates(1, 1)}


def test_a_queue_holds_50_ms_or_one_round_trip_whichever_is_longer():
    assert shaping.queue(MBIT, 0.0).limit == 50_000
    assert shaping.queue(MBIT, 0.01).limit == 50_000
    assert shaping.queue(MBIT, 0.1).limit == 200_000


def test_a_slow_queue_still_holds_a_super_packet_and_a_bucket_two_frames():
    slow = shaping.queue(1000, 0.0)

    assert (slow.limit, slow.bucket) == (32 << 10, 2 * 1514)


def test_a_fast_link_cuts_packets_that_take_longer_than_2_ms():
    assert shaping.queue(12_500_000, 0.0).bucket == 25_000


def test_from_nothing_a_tree_is_made_before_the_filter_points_at_it(here):
    then = wanted(here, asked({"cloud-1": Quality(rate=MBIT)}, {"edge-2": Quality(loss=1.0)}))

    found = shaping.plan(3, State(), then)

    assert [message.what for message in found.before] == [
        "put HTB on the link",
        "set class 7067:11",
        "set the queue of class 7067:11",
    ]
    assert [message.what for message in found.filter] == [
        *[message.what for message in nftables.shaping_table()],
        "add to map class",
        "add to set cut",
    ]
    assert found.after == []


def test_equal_states_need_no_messages(here, bounded):
    for then in (
        State(),
        state(here, cloud_1=Quality(rate=MBIT)),
        state(bounded, cloud_1=Quality(rate=MBIT)),
    ):
        assert shaping.plan(3, then, then).actions == []


def test_a_changed_rate_changes_its_class_and_queue_in_place_and_nothing_else(here):
    now = state(here, cloud_1=Quality(rate=5 * MBIT), edge_2=Quality(rate=MBIT))
    then = state(here, cloud_1=Quality(rate=8 * MBIT), edge_2=Quality(rate=MBIT))

    found = shaping.plan(3, now, then)

    assert found.actions == ["set class 7067:11", "set the queue of class 7067:11"]


def test_a_changed_delay_changes_the_queue_alone(here):
    now = state(here, cloud_1=Quality(rate=5 * MBIT))
    then = state(here, cloud_1=Quality(rate=5 * MBIT, delay=0.1))

    assert shaping.plan(3, now, then).actions == ["set the queue of class 7067:11"]


def test_a_queue_that_reads_back_without_its_bucket_is_the_same(here):
    then = state(here, cloud_1=Quality(rate=5 * MBIT))
    now = State(then.classes, {CLOUD: Queue(then.queues[CLOUD].limit)}, then.peers, table=True)

    assert shaping.plan(3, now, then).actions == []


def test_a_second_peer_is_added_beside_the_first(here):
    now = state(here, cloud_1=Quality(rate=MBIT))
    then = state(here, cloud_1=Quality(rate=MBIT), edge_2=Quality(rate=MBIT))

    assert shaping.plan(3, now, then).actions == [
        "set class 7067:13",
        "set the queue of class 7067:13",
        "add to map class",
    ]


def test_a_class_goes_after_the_filter_has_let_go_of_it(here):
    now = state(here, cloud_1=Quality(rate=MBIT), edge_2=Quality(rate=MBIT))
    then = state(here, cloud_1=Quality(rate=MBIT))

    found = shaping.plan(3, now, then)

    assert found.before == []
    assert [message.what for message in found.filter] == ["delete from class"]
    assert [message.what for message in found.after] == ["delete class 7067:13"]


def test_the_last_layer_takes_tree_and_table_with_it(here):
    found = shaping.plan(3, state(here, cloud_1=Quality(rate=MBIT)), State())

    assert found.before == []
    assert [message.what for message in found.filter] == ["delete table pkgctl"]
    assert [message.what for message in found.after] == ["delete HTB"]


def test_an_access_rate_that_comes_needs_a_new_tree(here, bounded):
    now = state(here, cloud_1=Quality(rate=MBIT))
    then = state(bounded, cloud_1=Quality(rate=MBIT))

    found = shaping.plan(3, now, then)

    assert [message.what for message in found.before] == [
        "delete HTB",
        "put HTB on the link",
        "set class 7067:1",
        "set class 7067:2",
        "set class 7067:11",
        "set the queue of class 7067:2",
        "set the queue of class 7067:11",
    ]
    assert (found.filter, found.after) == ([], [])


def test_classes_of_peers_hang_under_the_access_class(bounded):
    from pyroute2.netlink.rtnl.tcmsg import tcmsg

    from .witness import read

    before = shaping.plan(3, State(), state(bounded, cloud_1=Quality(rate=MBIT))).before

    made = [read(message, tcmsg) for message in before if message.what.startswith("set class")]
    assert {each["handle"]: each["parent"] for each in made} == {
        ROOT | 1: ROOT,
        ROOT | 2: ROOT | 1,
        ROOT | CLOUD: ROOT | 1,
    }


def test_a_cut_source_is_let_in_again_and_another_cut(here):
    down = {"cloud-1": Quality(loss=1.0)}, {"edge-2": Quality(loss=1.0)}
    now, then = (wanted(here, asked(ingress=each)) for each in down)

    found = shaping.plan(3, now, then)

    assert found.actions == ["delete from cut", "add to set cut"]


def test_a_state_is_shown_a_fact_a_line(here):
    rates = asked({"cloud-1": Quality(rate=5 * MBIT)}, {"edge-2": Quality(loss=1.0)})

    assert wanted(here, rates).show() == (
        "class 11: 5mbit, queue 32768 bytes\nto 10.77.0.1: class 11\nfrom 10.77.0.3: nothing\n"
    )
