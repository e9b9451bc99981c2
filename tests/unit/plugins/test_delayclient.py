# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import arming, delayclient, nftables
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import AgentError
from ansible_collections.pkgctl.testbed.plugins.module_utils.quality import UNSHAPED, Quality

from .agents import Agent, node

PAIR = nftables.key("10.77.0.1", "10.77.0.2")
PAIR6 = nftables.key("fd77::1", "fd77::2")


def test_what_changes_between_tables_is_named_and_what_stays_is_not():
    same = Quality(delay=0.02)
    now = {"a": same, "b": Quality(delay=0.01), "d": Quality(delay=1)}
    then = {"a": same, "c": Quality(delay=0.01), "d": Quality(delay=1, loss=0.1)}

    assert delayclient.actions(now, then) == [
        "delay line from b: stop",
        "delay line from c: set",
        "delay line from d: set",
    ]
    assert delayclient.actions(now, now) == []


def test_a_table_is_shown_a_peer_a_line():
    entries = {"edge-2": Quality(loss=0.1), "cloud-1": Quality(delay=0.02, jitter=0.001)}

    assert delayclient.show(entries) == (
        "delay line from cloud-1: 20ms ±1ms\ndelay line from edge-2: 10%\n"
    )


def test_changes_are_told_and_keys_may_be_in_hexadecimal(tmp_path):
    here = node(tmp_path)
    changes = [([PAIR, PAIR6.hex()], Quality(delay=0.02)), ([PAIR], None)]

    with Agent(here) as line:
        delayclient.tell(arming.socket(here), changes)

    usual = {"rate": None, "delay": 0.02, "jitter": 0.0, "loss": 0.0}
    pairs = [[[PAIR.hex(), PAIR6.hex()], usual], [[PAIR.hex()], None]]
    assert line.heard == [{"op": "set", "pairs": pairs}]


def test_many_changes_are_several_requests():
    few = list(delayclient._batches([([PAIR], Quality(delay=0.1))] * 450))
    measured = Quality(jitter=0.1, distribution=tuple(n / 4096 for n in range(4096)))
    long = list(delayclient._batches([([PAIR], measured)] * 40))

    assert [len(batch) for batch in few] == [200, 200, 50]
    assert len(long) > 1
    assert sum(map(len, long)) == 40


def test_a_delay_line_out_of_reach_matters_only_if_it_is_needed(tmp_path):
    path, changes = tmp_path / "delay.sock", [([PAIR], Quality(delay=0.1))]

    delayclient.tell(path, changes, required=False)
    delayclient.tell(path, [])
    with pytest.raises(AgentError, match=r"need the node's delay line: .*`pkgctl up` starts it"):
        delayclient.tell(path, changes)


def test_a_pair_of_which_the_kernel_knows_otherwise_is_unshaped(tmp_path):
    here = node(tmp_path)
    asked = Quality(delay=0.02, burst=3.0, loss=0.1)
    other = nftables.key("10.77.0.3", "10.77.0.2")
    listed = [[PAIR.hex(), asked.to_dict(), True], [PAIR6.hex(), asked.to_dict(), False]]

    with Agent(here, pairs=[*listed, [other.hex(), None, True]]) as line:
        found = delayclient.pairs(arming.socket(here), [PAIR[4:]])

    assert found == {PAIR: asked, PAIR6: UNSHAPED, other: UNSHAPED}
    assert line.heard == [{"op": "pairs", "to": ["0a4d0002"]}]
