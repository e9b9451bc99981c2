# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import signal

import pytest

from pkgctl.experiment.interruption import Interrupted, Interruption


def signal_self(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_interrupts(number):
    with pytest.raises(Interrupted), Interruption().watched():
        signal_self(number)


def test_later_signals_leave_the_way_back_alone():
    reached = []

    with pytest.raises(Interrupted), Interruption().watched():
        try:
            signal_self(signal.SIGINT)
        finally:
            signal_self(signal.SIGINT)
            signal_self(signal.SIGTERM)
            reached.append("end")

    assert reached == ["end"]


def test_a_shielded_block_comes_to_its_end_first():
    reached = []
    interruption = Interruption()

    with pytest.raises(Interrupted), interruption.watched():
        with interruption.shielded():
            signal_self(signal.SIGTERM)
            reached.append("shielded")
        reached.append("never")

    assert reached == ["shielded"]


def test_what_fails_because_of_the_signal_does_not_hide_it():
    interruption = Interruption()

    with pytest.raises(Interrupted), interruption.watched(), interruption.shielded():
        signal_self(signal.SIGTERM)
        raise OSError("the tool was interrupted too")


def test_the_handlers_of_before_are_back_afterwards():
    before = signal.getsignal(signal.SIGTERM)

    with Interruption().watched():
        assert signal.getsignal(signal.SIGTERM) is not before

    assert signal.getsignal(signal.SIGTERM) is before
