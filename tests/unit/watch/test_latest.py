# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from pkgctl.watch.latest import Latest

USED = ("throttled_seconds", "read_bytes", "write_bytes", "rx_bytes", "tx_bytes")


def sample(mono, **cpu):
    rows = [
        {"node": node, "job": None, "memory_bytes": 1, "cpu_seconds": used, **dict.fromkeys(USED)}
        for node, used in cpu.items()
    ]
    return {"mono": mono, "rows": rows}


def test_samples_of_all_nodes_at_once_are_complete_each_time():
    latest = Latest(1.0)
    latest.take(sample(1.0, a=0.0, b=0.0))
    assert latest.is_complete(["a", "b"]) and latest.use() is None
    latest.take(sample(2.0, a=0.5, b=1.0))

    used, seconds = latest.use()

    assert ({name: each["cpu"] for name, each in used.items()}, seconds) == (
        {"a": 0.5, "b": 1.0},
        1,
    )


def test_nodes_that_are_sampled_by_themselves_are_shown_together_each_at_its_own_rate():
    latest = Latest(1.0)
    for each in (sample(1.0, a=0.0), sample(1.3, b=0.0)):
        latest.take(each)
    latest.use()
    latest.take(sample(2.0, a=0.5))
    assert not latest.is_complete(["a", "b"])
    latest.take(sample(2.8, b=0.75))
    assert latest.is_complete(["a", "b"])

    used, seconds = latest.use()

    assert [used[name]["cpu"] for name in ("a", "b")] == pytest.approx([0.5, 0.5])
    assert seconds == pytest.approx(1.5)


def test_a_node_that_is_gone_holds_up_nobody():
    latest = Latest(1.0)
    for each in (sample(1.0, a=0.0), sample(1.0, b=0.0)):
        latest.take(each)
    latest.use()
    latest.take(sample(2.0, a=0.5))
    assert not latest.is_complete(["a", "b"])
    latest.take(sample(3.0, a=1.0))

    assert latest.is_complete(["a", "b"])
    assert list(latest.use()[0]) == ["a"]
