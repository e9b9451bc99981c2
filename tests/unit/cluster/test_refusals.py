# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from pkgctl.cluster.refusals import Patience, is_ailing, may_pass
from pkgctl.errors import ClusterError, Refused


class Clock:
    """A time that a test sets."""

    time = 0.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


def refused(status: int) -> Refused:
    return Refused("no", status=status)


@pytest.mark.parametrize(
    ("error", "ails", "passes"),
    [
        (ClusterError("no answer"), False, True),
        (refused(401), False, True),
        (refused(403), False, True),
        (refused(429), True, True),
        (refused(500), True, True),
        (refused(503), True, True),
        (refused(404), False, False),
        (refused(409), False, False),
        (refused(422), False, False),
    ],
)
def test_what_may_pass_is_told_from_what_stays(error, ails, passes):
    assert (is_ailing(error), may_pass(error)) == (ails, passes)


def test_patience_runs_out_with_who_is_barred_for_all_its_time(clock):
    patience = Patience(10.0, now=clock)
    found = []
    for clock.time in (0.0, 9.9, 10.0):
        found.append(patience.runs_out(refused(403)))

    assert found == [False, False, True]


@pytest.mark.parametrize("other", [ClusterError("no answer"), refused(503), refused(404)])
def test_any_other_error_has_patience_begin_anew(clock, other):
    patience = Patience(10.0, now=clock)
    patience.runs_out(refused(401))
    clock.time += 20

    assert not patience.runs_out(other)
    assert not patience.runs_out(refused(401))
    clock.time += 9
    assert not patience.runs_out(refused(403))


def test_statuses_that_are_named_count_too():
    patience = Patience(0.0, statuses=(404,))

    assert patience.runs_out(refused(404))
    assert not patience.runs_out(refused(403))
