# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import limits, quotas


def test_limits_are_read_as_numbers_and_io_sets_both_ways():
    numbers = limits.read({"cpu": "200m", "memory": "128Mi", "io": "10Mi/s", "pids": "64"})

    assert numbers == {
        "cpu": 0.2,
        "memory": 128 << 20,
        "read_bps": 10 << 20,
        "write_bps": 10 << 20,
        "pids": 64,
    }


def test_a_way_that_is_set_apart_goes_before_io():
    assert limits.read({"write_bps": "1Mi", "io": "10Mi"}) == {
        "read_bps": 10 << 20,
        "write_bps": 1 << 20,
    }


def test_every_limit_that_a_node_knows_can_be_read():
    assert {*limits.READERS} - {"io"} == {*quotas.KEYS}


@pytest.mark.parametrize(
    ("texts", "error"),
    [
        ({"cpu": "0"}, "cpu: cpu '0' must be above zero"),
        ({"memory": 0}, "memory: size 0 must be above zero"),
        ({"memory": "128"}, "memory: size '128' has no unit; did you mean 128Mi?"),
        ({"memory": 128.0}, "memory: size 128.0 has no unit; did you mean 128.0Mi?"),
        ({"io": "10/s"}, "io: size '10' has no unit; did you mean 10Mi?"),
        ({"io": "fast"}, "io: size 'fast' is no quantity"),
        ({"pids": "1e3"}, "pids: '1e3' is no whole number above zero"),
        ({"pids": True}, "pids: True is no whole number above zero"),
        ({"colour": "red"}, "colour: unknown limit; known are cpu, memory"),
    ],
)
def test_a_wrong_limit_is_refused_with_its_key(texts, error):
    with pytest.raises(ValueError) as caught:
        limits.read(texts)

    assert str(caught.value).startswith(error)
