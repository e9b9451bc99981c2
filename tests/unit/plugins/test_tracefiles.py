# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import tracefiles

TRACE = """# as driven on a Monday
time,rate,delay,loss
100,5mbit,40ms,0%
101.5,,60ms,1%

2m,none,,0%
"""


def read(text: str) -> tuple[tracefiles.Row, ...]:
    return tracefiles.read_trace("drive.csv", lambda _: text)


def test_a_trace_counts_from_its_first_row_and_repeats_what_is_left_empty():
    assert read(TRACE) == (
        (0.0, {"rate": 5_000_000, "delay": 0.04, "loss": 0.0}),
        (1.5, {"rate": 5_000_000, "delay": 0.06, "loss": 0.01}),
        (20.0, {"rate": None, "delay": 0.06, "loss": 0.0}),
    )


def test_columns_may_stand_in_any_order_and_go_by_the_words():
    assert read("jitter, time ,bw\n1ms,0s,1mbit\n") == ((0.0, {"jitter": 0.001, "rate": 10**6}),)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "trace: drive.csv: is empty"),
        ("# nothing\n\n", "trace: drive.csv: is empty"),
        ("time,rate\n", "trace: drive.csv: has no rows"),
        ("time\n1\n", "trace: drive.csv:1: needs the column time and another"),
        ("rate,delay\n", "trace: drive.csv:1: needs the column time and another"),
        ("time,rtae\n", "trace: drive.csv:1: rtae: unknown column; did you mean rate?"),
        ("time,rate,bw\n", "trace: drive.csv:1: rate: the column stands twice"),
        ("time,rate\n0,5mbit,1\n", "trace: drive.csv:2: has 3 values for 2 columns"),
        ("time,rate\n0,5mbps\n", "trace: drive.csv:2: rate: rate '5mbps' has the unit"),
        ("time,rate\n0,\n", "trace: drive.csv:2: rate: is empty, and nothing stands above it"),
        ("time,rate\nnow,1mbit\n", "trace: drive.csv:2: time: duration 'now'"),
        ("time,rate\n1,1mbit\n1,2mbit\n", "trace: drive.csv:3: time: must be later than"),
        ("time,loss\n" + "1,1%\n" * 10_002, "trace: drive.csv: has more than 10000 lines"),
    ],
)
def test_a_wrong_trace_is_refused_with_file_and_line(text, error):
    with pytest.raises(ValueError) as caught:
        read(text)

    assert str(caught.value).startswith(error)


def test_a_trace_that_fits_no_message_is_refused():
    header = "time,rate,delay,jitter,loss,duplicate,reorder,corrupt\n"
    rows = "".join(f"{n},1mbit,40123us,4123us,1%,1%,1%,1%\n" for n in range(10_000))

    with pytest.raises(ValueError, match="is too much for one message"):
        read(header + rows)


def test_rows_are_taken_as_they_are():
    rows = [[0, {"rate": 1000}], [2.5, {"rate": None}]]

    assert tracefiles.read_trace(rows, read) == ((0.0, {"rate": 1000}), (2.5, {"rate": None}))


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        ([], "trace: has no rows"),
        ([3], "trace: row 1: write [seconds, {rate: bits a second}]"),
        ([[0, {"rtae": 3}]], "trace: row 1: rtae: unknown quality"),
        ([[0, {"loss": 3}]], "trace: row 1: loss must lie between 0 and 1"),
        ([["x", {"loss": 0}]], "trace: row 1: could not convert"),
        ([[1, {"loss": 0}], [1, {"loss": 0}]], "trace: the times must rise"),
        ([[-1, {"loss": 0}]], "trace: the times must be zero or more"),
        ([[float("nan"), {"loss": 0}]], "trace: the times must be zero or more"),
        ({}, "trace: {} is no name of a file"),
        ("", "trace: '' is no name of a file"),
    ],
)
def test_wrong_rows_are_refused(rows, error):
    with pytest.raises(ValueError) as caught:
        tracefiles.read_trace(rows, read)

    assert str(caught.value).startswith(error)


def test_delays_become_a_mean_a_deviation_and_quantiles():
    found = tracefiles.read_delays("seen.txt", lambda _: "# pings\n30ms\n10ms\n")

    assert (found.mean, found.deviation) == (pytest.approx(0.02), pytest.approx(0.01))
    assert found.quantiles == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("12\n", "distribution: seen.txt:1: duration '12' has no unit; did you mean 12ms?"),
        ("1ms\n\nfast\n", "distribution: seen.txt:3: duration 'fast'"),
        ("1ms\n1ms\n", "distribution: seen.txt: the delays do not scatter"),
    ],
)
def test_wrong_delays_are_refused_with_file_and_line(text, error):
    with pytest.raises(ValueError) as caught:
        tracefiles.read_delays("seen.txt", lambda _: text)

    assert str(caught.value).startswith(error)


def test_a_file_is_found_in_the_first_folder_that_has_it(tmp_path, monkeypatch):
    near, far = tmp_path / "near", tmp_path / "far"
    near.mkdir()
    far.mkdir()
    (far / "seen.txt").write_text("far")

    assert tracefiles.find("seen.txt", near, far) == str(far / "seen.txt")
    assert tracefiles.find("other.txt", near, far) == "other.txt"
    monkeypatch.chdir(far)
    assert tracefiles.find("seen.txt", Path()) == str(far / "seen.txt")
    assert tracefiles.beside(near, far)("seen.txt") == "far"


def test_what_is_no_plain_text_file_of_a_fair_size_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "big").write_bytes(b"x" * (tracefiles.MOST_BYTES + 1))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")

    for name, reason in [
        ("none", r"cannot be read \(No such file"),
        ("pipe", "is no plain file"),
        ("big", "is larger than 1Mi"),
        ("binary", "is no text"),
        (".", "is no plain file"),
        ("a\0b", "no name of a file"),
    ]:
        with pytest.raises(ValueError, match=reason):
            tracefiles.read_text(str(tmp_path / name))
