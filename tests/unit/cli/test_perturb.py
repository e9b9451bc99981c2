# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os

import pytest
from click.testing import CliRunner

from pkgctl import cli, playbook
from pkgctl.experiment import disturb, precondition
from pkgctl.playbook import Play


@pytest.fixture
def played(monkeypatch):
    """Return what would have been played, as (playbook, words, dry)."""
    plays = []

    def play(name, variables, *, testbed, check=False, **_):
        given = {word: value for word, value in variables.items() if value is not None}
        plays.append((name, given, check))
        return Play(name, {"edge-1": {"changed": 1}, "edge-2": {"changed": 0}}, {}, ())

    monkeypatch.setattr(playbook, "play", play)
    monkeypatch.setattr(disturb, "check", lambda *_: None)
    monkeypatch.setattr(precondition, "foresee", lambda *_: [])
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return plays


def invoke(*arguments: str):
    return CliRunner().invoke(cli.cli, arguments)


def test_the_options_are_words_too(played):
    line = "perturb node=edge-2 cpu=0.2 --name a --lease none --seed 7 --force --dry-run"

    result = invoke(*line.split())

    words = {"node": "edge-2", "cpu": "0.2", "name": "a", "lease": "none", "seed": "7"}
    assert played == [("perturb.yml", {**words, "force": True}, True)]
    assert result.output == "would change: edge-1\n"


def test_what_is_not_given_is_no_word(played):
    invoke("perturb", "bw=5mbit")

    assert played == [("perturb.yml", {"bw": "5mbit"}, False)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("perturb bw=5mbit name=a --name b", "name is given twice, as name= and as --name"),
        ("perturb bw=5mbit seed=1 --seed 2", "seed is given twice"),
        ("perturb bw=5mbit bw=6mbit", "bw is given twice"),
        ("perturb bw", "'bw' is no word=value; write one such as bw=5mbit"),
    ],
)
def test_what_is_given_twice_or_is_no_word_is_refused(played, line, message):
    result = invoke(*line.split())

    assert result.exit_code == 2
    assert message in result.stderr
    assert played == []


@pytest.mark.parametrize("line", ["perturb bw=5mbit", "heal"])
def test_who_is_not_root_is_told_so_at_once(played, monkeypatch, line):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    result = invoke(*line.split())

    assert result.exit_code == 3
    assert "needs root: run it with sudo" in result.stderr
    assert played == []


def test_several_layers_are_healed_in_one_play(played):
    invoke("heal", "slow", "cut", "--site", "edge-a")
    invoke("heal")

    assert played == [
        ("heal.yml", {"name": "slow,cut", "site": "edge-a"}, False),
        ("heal.yml", {}, False),
    ]


def test_a_file_is_seen_from_the_current_folder(played, tmp_path, monkeypatch):
    (tmp_path / "drive.csv").write_text("time,rate\n0,1mbit\n")
    monkeypatch.chdir(tmp_path)

    invoke("perturb", "trace=drive.csv")

    assert played[0][1] == {"trace": str(tmp_path / "drive.csv")}
