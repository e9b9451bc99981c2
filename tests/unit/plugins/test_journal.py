# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import errno
import json
import os

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import journal
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import AgentError
from ansible_collections.pkgctl.testbed.plugins.module_utils.journal import Journal, Moment


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.jsonl"


def numbers(path):
    return [record["n"] for record in Journal(path).replay()]


def test_what_is_appended_is_replayed_in_its_order(path):
    written = Journal(path)
    written.append([{"n": 1}, {"n": 2}])
    written.append([{"n": 3}])

    assert numbers(path) == [1, 2, 3]


def test_a_journal_that_is_not_there_is_empty(path):
    assert numbers(path) == []
    assert Journal(path).size == 0


@pytest.mark.parametrize("torn", ['{"n":', '{"boot": "x"}', "", "\0\0\0", '"text"', "[1]"])
def test_a_torn_line_is_passed_over_and_what_follows_it_is_not(path, torn):
    Journal(path).append([{"n": 1}])
    with path.open("a") as file:
        file.write(torn)

    assert numbers(path) == [1]
    Journal(path).append([{"n": 2}])
    assert numbers(path) == [1, 2]


def test_compaction_leaves_what_it_was_given_and_goes_on_after_it(path):
    written = Journal(path)
    written.append([{"n": n} for n in range(100)])

    written.compact([{"n": 7}])
    written.append([{"n": 8}])

    assert numbers(path) == [7, 8]
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_what_could_not_be_written_wholly_is_not_there_at_all(path, monkeypatch):
    written = Journal(path)
    written.append([{"n": 1}])

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(AgentError, match="No space left"):
            written.append([{"n": 2}, {"n": 3}])
    written.append([{"n": 4}])

    assert numbers(path) == [1, 4]


def test_a_compaction_that_fails_leaves_the_journal_as_it_was(path, monkeypatch):
    written = Journal(path)
    written.append([{"n": 1}])

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            written.compact([])
    written.append([{"n": 2}])

    assert numbers(path) == [1, 2]
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_times_of_this_boot_are_as_they_were_written(path):
    Journal(path).append([{"n": 1}])

    assert next(Journal(path).replay())["shift"] == 0.0


def test_times_of_another_boot_are_converted_by_the_wall_clock(path):
    now = journal.now()
    # Written 50 s ago, when the machine had been up for 1000 s.
    record = {"boot": "another", "mono": 1000.0, "wall": now.wall - 50.0, "ends": 1060.0}
    path.write_text(json.dumps(record) + "\n")

    found = next(Journal(path).replay())

    assert found["ends"] + found["shift"] == pytest.approx(now.mono + 10.0, abs=1.0)


def test_a_shift_leads_from_one_boots_clock_to_anothers():
    here = Moment("b", mono=5.0, wall=1105.0)

    assert here.shift_from("a", mono=100.0, wall=1100.0) == pytest.approx(-100.0)
    assert here.shift_from("b", mono=1.0, wall=0.0) == 0.0


def test_a_journal_that_cannot_be_written_is_an_error_in_words(tmp_path):
    with pytest.raises(AgentError, match="the journal cannot be written: "):
        Journal(tmp_path / "nowhere" / "journal.jsonl").append([{"n": 1}])
