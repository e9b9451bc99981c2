# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import io

import pytest

from pkgctl.experiment.progress import Progress, bar, show_seconds


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (-3, "0s"), (59.4, "59s"), (60, "1m00s"), (192, "3m12s"), (7260, "2h01m")],
)
def test_times_are_short_texts(seconds, text):
    assert show_seconds(seconds) == text


@pytest.mark.parametrize(("share", "full"), [(0, 0), (0.5, 5), (1, 10), (1.7, 10), (-1, 0)])
def test_a_bar_is_filled_to_its_share(share, full):
    assert bar(share, 10) == "━" * full + "─" * (10 - full)


def test_without_a_terminal_each_run_is_a_plain_line_with_the_time_left():
    out, times = io.StringIO(), iter([0.0, 8.0, 8.0, 20.0])
    progress = Progress(out, lambda: next(times))
    progress.plan(2, 5.0)

    for name in ("a", "b"):
        progress.begin(name)
        progress.end(name, "done")

    assert out.getvalue().splitlines() == ["1/2 a: done in 8.0 s, 8s left", "2/2 b: done in 12.0 s"]


def test_a_terminal_shows_one_line_with_a_bar_that_is_erased_for_what_stays():
    out, times = Terminal(), iter([0.0, 8.0, 8.0])
    progress = Progress(out, lambda: next(times))
    progress.plan(2, 5.0)
    progress.begin("a")
    progress.end("a", "done")
    progress.begin("b")
    progress.say("warning")

    parts = out.getvalue().split("\r\x1b[2K")
    assert "1/2  a  10s left" in parts[1]
    assert "2/2  b  8s left" in parts[2]
    assert parts[3] == "warning\n"


def test_nobody_to_talk_to_is_no_error():
    progress = Progress(None)
    progress.plan(1, 1.0)
    progress.begin("a")
    progress.end("a", "done")
    progress.clear()
