# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import shortly
from ansible_collections.pkgctl.testbed.plugins.module_utils.quality import Quality


def link(*qualities, way="egress"):
    return {way: {f"node-{index}": each.to_dict() for index, each in enumerate(qualities)}}


SLOW, LOSSY, DOWN = Quality(5_000_000, 0.04), Quality(loss=0.02), Quality(loss=1.0)


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        ("link", link(SLOW, SLOW), "5mbit 40ms"),
        ("link", link(LOSSY, way="ingress"), "2%"),
        ("link", link(DOWN), "down"),
        ("link", link(SLOW, LOSSY), "5mbit 40ms | 2%"),
        ("link", link(SLOW, LOSSY, DOWN), "5mbit 40ms | 2% | ..."),
        ("link", {"egress": {}, "ingress": {}}, ""),
        ("quota", {"cpu": 0.2, "memory": 64 << 20, "pids": 50}, "cpu 0.2 memory 64Mi pids 50"),
        ("quota", {"read_bps": 1 << 20, "write_bps": 1 << 20}, "io 1Mi/s"),
        ("quota", {"read_bps": 1 << 20, "write_bps": 2 << 20}, "read 1Mi/s write 2Mi/s"),
        ("quota", {"read_iops": 50, "write_iops": 50}, "iops 50"),
        ("quota", {"write_iops": 50.0}, "write iops 50"),
        ("disk", {"data": {"condition": "detached"}}, "data detached"),
        ("disk", {"data": {"condition": "unmounted", "how": "lazy"}}, "data unmounted (lazy)"),
        ("disk", {"data": {"fill": 0.9}}, "data filled to 90%"),
        (
            "disk",
            {"data": {"size": 32 << 20}, "b": {"condition": "readonly"}},
            "data of 32Mi | b readonly",
        ),
        ("health", {"health": "crashed"}, "crashed"),
        ("stress", {"cpu": 1.5, "memory": 64 << 20, "io": 0}, "stress cpu 1.5 memory 64Mi"),
        ("new", {"some": 1}, '{"some": 1}'),
    ],
)
def test_a_setting_in_short(kind, body, text):
    assert shortly.settings(kind, [body]) == text


def test_what_many_nodes_are_asked_alike_is_said_once():
    assert shortly.settings("quota", [{"cpu": 0.2}, {"cpu": 0.2}]) == "cpu 0.2"
    assert (
        shortly.settings("quota", [{"pids": count} for count in range(1, 9)])
        == "pids 1 | pids 2 | ..."
    )
