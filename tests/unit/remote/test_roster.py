# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pkgctl.remote.roster import Roster


def record(name="a", node="one", status="running", submitted=1.0):
    return {"id": name, "node": node, "status": status, "stamps": {"submitted": submitted}}


def test_what_was_overtaken_is_no_news():
    roster = Roster()

    assert roster.note(record(status="starting"))
    assert roster.note(record(status="finished"))
    assert not roster.note(record(status="running"))
    assert not roster.note(record(status="finished"))
    assert roster.note(record(status="starting", submitted=2.0))


def test_a_removal_that_was_told_already_is_no_news_when_the_node_tells_it():
    roster = Roster()
    roster.note(record())

    assert roster.take_out("a")["status"] == "removed"
    roster.note(record(submitted=2.0))
    assert not roster.note(record(status="removed"))
    assert roster.is_alive("a")
    assert roster.note(record(status="removed"))
    assert roster.node("a") is None


def test_a_removal_on_another_node_is_not_this_job_s():
    roster = Roster()
    roster.note(record(node="two"))

    assert not roster.note(record(node="one", status="removed"))
    assert roster.node("a") == "two"


def test_a_node_s_own_list_says_what_was_missed():
    roster = Roster()
    for each in (record("a"), record("b"), record("c"), record("d", node="two")):
        roster.note(each)

    news = roster.compare("one", [record("a"), record("b", status="failed"), record("e")], 9.0)

    assert {each["id"]: each["status"] for each in news} == {
        "b": "failed",
        "c": "failed",
        "e": "running",
    }
    (lost,) = (each for each in news if each["id"] == "c")
    assert (lost["lost"], lost["error"]) == (True, "node one lost it")
    assert sorted(each["id"] for each in roster.all()) == ["a", "b", "c", "d", "e"]
    assert (
        roster.compare("one", [record("a"), record("b", status="failed"), record("e")], 9.0) == []
    )


def test_jobs_of_a_node_that_went_down_are_lost_and_no_others():
    roster = Roster()
    for each in (record("a"), record("b", status="finished"), record("c", node="two")):
        roster.note(each)

    (lost,) = roster.lose("one", "node one crashed", 9.0)

    assert (lost["id"], lost["status"], lost["lost"], lost["error"]) == (
        "a",
        "failed",
        True,
        "node one crashed",
    )
    assert lost["stamps"]["finished"] == 9.0
    assert roster.lose("one", "node one crashed", 9.0) == []
    again = {**record("a", status="failed", submitted=1.5), "error": "node one was started again"}
    assert not roster.note(again)
    assert roster.note(record("a", status="starting", submitted=12.0))
    assert roster.is_alive("c") and roster.is_alive("a")
