# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import delayclient
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import AgentError
from ansible_collections.pkgctl.testbed.plugins.module_utils.quality import Quality

from .agents import node


def test_the_table_has_who_is_delayed_jittered_or_lossy_and_nobody_else(tmp_path):
    here = node(tmp_path, peers={name: f"10.77.0.{n}" for n, name in enumerate("abcde", 1)})

    table = delayclient.table(
        here,
        {
            "a": Quality(delay=0.02, jitter=0.001, loss=0.01),
            "b": Quality(rate=5_000_000),
            "c": Quality(loss=1.0, delay=0.1),
            "d": Quality(loss=0.5),
            "stranger": Quality(delay=0.1),
        },
    )

    assert table == {"10.77.0.1": (0.02, 0.001, 0.01), "10.77.0.4": (0.0, 0.0, 0.5)}


def test_what_changes_between_tables_is_named_and_what_stays_is_not():
    now = {"10.77.0.1": (0.02, 0.0, 0.0), "10.77.0.2": (0.01, 0.0, 0.0), "10.77.0.4": (1, 0, 0)}
    then = {"10.77.0.1": (0.02, 0.0, 0.0), "10.77.0.3": (0.01, 0.0, 0.0), "10.77.0.4": (2, 0, 0)}

    assert delayclient.actions(now, then) == [
        "delay line from 10.77.0.2: stop",
        "delay line from 10.77.0.3: set",
        "delay line from 10.77.0.4: set",
    ]
    assert delayclient.actions(now, now) == []


def test_a_table_is_shown_in_milliseconds_and_percent():
    assert (
        delayclient.show({"10.77.0.1": (0.02, 0.001, 0.015)})
        == "delay line from 10.77.0.1: 20ms ±1ms loss 1.5%\n"
    )


def test_a_delay_line_out_of_reach_matters_only_if_it_is_needed(tmp_path):
    here = node(tmp_path)

    delayclient.announce(here, required=False)
    with pytest.raises(AgentError, match=r"need the node's delay line: .*`pkgctl up` starts it"):
        delayclient.announce(here, required=True)
