# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from pkgctl import cli, playbook
from pkgctl.errors import PlayError, VerificationFailed
from pkgctl.nodeside import Quality, verdicts
from pkgctl.playbook import Play
from pkgctl.remote import verifying

AS_ASKED = {"output": "[]", "wanted": "def drift("}


def row(verdict: str, reason: str = "") -> dict:
    return {
        **verdicts.Verdict.of("one", "two", Quality(), Quality()).row(),
        "verdict": verdict,
        "reason": reason,
    }


@pytest.fixture
def played(monkeypatch):
    """What was played: words of each play; the verdicts that it gives are put in."""
    found = []

    def play(name, words, *, testbed, strict):
        assert (name, testbed, strict) == ("verify.yml", "lab", False)
        found.append(dict(words))
        events = [{"result": {"msg": ""}}, {"result": None}]
        if play.rows is not None:
            events.append({"result": {"links": play.rows}})
        return Play(name, {}, play.failures, events)

    play.rows, play.failures = [row("pass")], {}
    found_play = play
    monkeypatch.setattr(playbook, "play", play)
    return found, found_play


@pytest.fixture
def world(far, running):
    far.answers(**{"192_0_2_1": AS_ASKED, "192_0_2_2": AS_ASKED})
    return running


def verify(*words):
    return CliRunner().invoke(cli.cli, ["verify", "--name", "lab", *words], standalone_mode=False)


def test_every_node_is_read_back_by_itself(world, far):
    far.answers(**{"192_0_2_1": {"output": '["link: lacks a class"]'}, "192_0_2_2": AS_ASKED})

    assert verifying.drift(world) == {"one": ["link: lacks a class"]}


def test_a_node_that_is_down_by_a_layer_is_as_asked(world, far):
    world.node("one").mkdir(parents=True)
    (world.node("one") / "health.json").write_text(json.dumps({"dead": {"health": "crashed"}}))
    far.answers(**{"192_0_2_2": AS_ASKED})

    assert verifying.drift(world) == {}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), [{"sample": None, "seed": 0, "budget": "60s"}]),
        (("--sample", "1", "--seed", "7"), [{"sample": 1, "seed": 7, "budget": "60s"}]),
        (("--all", "--budget", "2m"), [{"all": True, "budget": "2m"}]),
        (("--pair", "one:two"), [{"src": ["one"], "dst": ["two"], "budget": "60s"}]),
    ],
)
def test_pairs_are_chosen_as_the_playbook_wants_it(world, played, words, expected):
    shown = verify(*words)

    assert shown.exception is None, shown.exception
    assert played[0] == expected
    assert "read back: every node is as asked" in shown.stdout and "pass" in shown.stdout


def test_pairs_that_are_not_all_of_some_nodes_are_measured_source_by_source():
    pairs = [("a", "b"), ("b", "c"), ("a", "d")]

    assert verifying.plays(pairs) == [
        {"src": ["a"], "dst": ["b", "d"]},
        {"src": ["b"], "dst": ["c"]},
    ]
    assert verifying.plays([("a", "b"), ("b", "a")]) == [{"src": ["a", "b"], "dst": ["b", "a"]}]


def test_drift_is_found_before_anything_is_measured(world, far, played):
    far.answers(**{"192_0_2_1": {"output": '["link: lacks a class"]'}, "192_0_2_2": AS_ASKED})

    shown = verify()

    assert isinstance(shown.exception, VerificationFailed)
    assert played[0] == [] and "one: link: lacks a class" in shown.stdout


def test_a_pair_that_is_not_as_asked_ends_with_4(world, played):
    played[1].rows = [row("fail", "too slow")]
    played[1].failures = {"localhost": "one → two: too slow"}

    shown = verify()

    assert isinstance(shown.exception, VerificationFailed)
    assert "one → two: too slow" in shown.stdout


def test_a_play_that_measured_nothing_is_an_error_with_its_reason(world, played):
    played[1].rows, played[1].failures = None, {"one": "it is unreachable"}

    shown = verify()

    assert isinstance(shown.exception, PlayError) and "it is unreachable" in str(shown.exception)


def test_a_perturbation_is_judged_against_machines_and_needs_no_root(world, monkeypatch):
    played = []

    def play(name, words, *, testbed, check):
        played.append((name, testbed, words["bw"]))
        return Play(name, {"one": {"changed": 1}}, {}, [])

    monkeypatch.setattr(playbook, "play", play)
    monkeypatch.setattr("os.geteuid", lambda: 1000)

    shown = CliRunner().invoke(
        cli.cli, ["perturb", "bw=5mbit", "--testbed", "lab"], standalone_mode=False
    )

    assert shown.exception is None, shown.exception
    assert played == [("perturb.yml", "lab", "5mbit")]
    assert "changed: one" in shown.stdout
