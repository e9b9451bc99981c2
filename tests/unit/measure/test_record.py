# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest

from pkgctl.errors import ResultsError
from pkgctl.measure.record import Objective, Window, parse_record, read_record


def write(folder, text):
    (folder / "run.json").write_text(text)
    return folder


def test_a_record_needs_no_more_than_a_name():
    record = parse_record({"name": "x"})

    assert (record.name, record.status, record.cells, record.runs) == ("x", "running", (), ())


def test_a_record_keeps_the_plan():
    record = parse_record(
        {
            "name": "x",
            "factors": {"replicas": [1, 2]},
            "cells": [
                {
                    "id": "replicas=1",
                    "factors": {"replicas": 1},
                    "runs": [
                        {"repeat": 0, "status": "done", "duration": 6, "folder": "cells/000-r0",
                         "windows": [{"name": "slow", "start": 2, "end": None, "active": False}]},
                        {"repeat": 1},
                    ],
                }
            ],
            "services": {"web": {"slo": {"latency": 0.15, "at": 0.95}}, "db": {}, "x": None},
        }
    )  # fmt: skip

    assert record.factors == {"replicas": (1, 2)}
    assert [(run.repeat, run.status, run.duration) for run in record.runs] == [
        (0, "done", 6.0),
        (1, "missing", None),
    ]
    assert record.runs[0].windows == (Window("slow", 2.0, None, active=False),)
    assert record.objectives == {"web": Objective(0.15, 0.95)}
    assert record.services == ("web", "db", "x")


def test_a_level_that_is_no_scalar_becomes_its_text():
    record = parse_record({"name": "x", "factors": {"perturb": [["a", "b"], {"k": 1}, None]}})

    assert record.factors["perturb"] == ('["a", "b"]', '{"k": 1}', None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ("[]", "not a run of format 1"),
        ('{"format": 2, "name": "x"}', "not a run of format 1"),
        ('{"format": 1}', "KeyError: 'name'"),
        ('{"format": 1, "name": "x", "cells": [{"id": "c", "runs": [{}]}]}', "KeyError: 'repeat'"),
        ('{"format": 1, "name": "x", "cells": 5}', "TypeError"),
        (
            '{"format": 1, "name": "x", "services": {"w": {"slo": {"latency": "a", "at": 1}}}}',
            "Value",
        ),
    ],
)
def test_what_is_no_run_is_refused_in_one_line(tmp_path, text, told):
    with pytest.raises(ResultsError) as caught:
        read_record(write(tmp_path, text))

    assert told in str(caught.value)
    assert str(tmp_path / "run.json") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ResultsError, match=r"run\.json: not found"):
        read_record(tmp_path)


def test_a_binary_file_is_refused(tmp_path):
    (tmp_path / "run.json").write_bytes(b"\xff\xfe\x00\x80")

    with pytest.raises(ResultsError, match="cannot be read"):
        read_record(tmp_path)


def test_a_record_is_read_from_its_file(tmp_path):
    assert read_record(write(tmp_path, json.dumps({"format": 1, "name": "x"}))).name == "x"
