# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pkgctl.errors import TestbedError
from pkgctl.local import editor, edits


@pytest.fixture
def changes(monkeypatch):
    """Note what is changed, and fail on what is called bad."""
    seen = []

    def change(name, wanted):
        names = [edit.name for edit in wanted]
        seen.append((name, names))
        if "bad" in names:
            raise TestbedError("bad does not work")
        return []

    monkeypatch.setattr(edits, "change", change)
    monkeypatch.setattr(edits, "details", lambda _testbed, node: {"address": f"of {node}"})
    return seen


def request(number: int, name: str, kind: str = "node", testbed: str = "lab", **more):
    values = more.get("values", {})
    return {
        "number": number,
        "op": "edit",
        "testbed": testbed,
        "kind": kind,
        "name": name,
        "values": values,
    }


def answers(*requests):
    return {answer["number"]: answer for answer in editor.serve(requests)}


def test_what_comes_together_is_one_change_of_each_testbed(changes):
    found = answers(request(1, "a"), request(2, "b", "link"), request(3, "c", testbed="other"))

    assert changes == [("lab", ["a", "b"]), ("other", ["c"])]
    assert found[1]["result"] == {"address": "of a"}
    assert found[2]["result"] == {}


def test_where_one_fails_each_has_its_own_answer(changes):
    found = answers(request(1, "a"), request(2, "bad"))

    assert changes == [("lab", ["a", "bad"]), ("lab", ["a"]), ("lab", ["bad"])]
    assert found[1]["result"] == {"address": "of a"}
    assert found[2]["error"] == "bad does not work"


def test_a_node_that_goes_has_no_address(changes):
    assert answers(request(1, "a", values=None))[1]["result"] == {}


def test_what_nobody_expected_is_one_line_too(monkeypatch, capsys):
    def look(*_):
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(edits, "look", look)

    found = answers({"number": 1, "op": "look", "testbed": "lab", "kind": "node", "name": "a"})

    assert found[1]["error"] == "ZeroDivisionError: of ours"
    assert "Traceback" in capsys.readouterr().err


def test_the_process_answers_line_by_line_and_ends_with_its_input():
    asked = [
        {"number": n, "op": "look", "testbed": "no such", "kind": "node", "name": "a"}
        for n in (1, 2)
    ]

    done = subprocess.run(
        [sys.executable, "-m", "pkgctl.local.editor"],
        input="".join(f"{json.dumps(each)}\n" for each in asked),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["number"] for each in found] == [1, 2]
    assert all("error" in each for each in found)
