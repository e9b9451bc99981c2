# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest

from pkgctl import playbook
from pkgctl.errors import PlayError

STATS = {
    "event": "playbook_on_stats",
    "event_data": {"ok": {"edge-1": 2, "edge-2": 1}, "changed": {"edge-1": 1}, "dark": {}},
}


def failure(host: str, **result: object) -> dict[str, object]:
    data = {"host": host, "task": "The node carries its part", "res": result}
    return {"event": "runner_on_failed", "event_data": data}


class Runner:
    """Gives the events of a play, and keeps what it was called with."""

    def __init__(self, *events, rc: int = 0, stdout: str = "") -> None:
        self.result = SimpleNamespace(
            events=events,
            rc=rc,
            status="failed" if rc else "successful",
            stdout=io.StringIO(stdout),
        )
        self.options = {}

    def __call__(self, **options):
        self.options = options
        return self.result


def test_a_play_says_what_it_did_on_each_host():
    play = playbook.play("perturb.yml", {}, testbed="t", runner=Runner(STATS))

    assert play.stats["edge-1"] == {"ok": 2, "changed": 1, "failed": 0, "unreachable": 0}
    assert play.stats["edge-2"]["changed"] == 0
    assert play.changed == 1


def test_the_runner_is_told_the_playbook_the_words_and_the_testbed():
    runner = Runner(STATS)

    playbook.play("perturb.yml", {"bw": "5mbit", "name": None}, testbed="lab", runner=runner)

    options = runner.options
    assert (Path(options["project_dir"]) / options["playbook"]).is_file()
    assert options["extravars"] == {"bw": "5mbit"}
    assert options["envvars"]["PKGCTL_TESTBED"] == "lab"
    assert Path(options["envvars"]["ANSIBLE_CONFIG"]).is_file()
    assert Path(options["inventory"]).is_file()


def test_a_limit_and_check_mode_are_handed_on():
    runner = Runner(STATS)

    playbook.play("base.yml", {}, testbed="t", limit="edge-1", check=True, runner=runner)

    assert runner.options["limit"] == "edge-1"
    assert "--check" in runner.options["cmdline"]


def test_a_failure_carries_each_hosts_own_words():
    runner = Runner(
        failure("edge-1", msg="cpu: 9 cores\nare too many"), failure("edge-2", stderr="no"), rc=2
    )

    with pytest.raises(PlayError) as caught:
        playbook.play("perturb.yml", {}, testbed="t", runner=runner)

    assert caught.value.failures == {"edge-1": "cpu: 9 cores are too many", "edge-2": "no"}


def test_a_failure_that_the_play_ignores_is_none():
    event = failure("edge-1", msg="no matter")
    event["event_data"]["ignore_errors"] = True

    assert playbook.play("base.yml", {}, testbed="t", runner=Runner(event, STATS)).failures == {}


def test_a_playbook_that_cannot_start_says_why():
    runner = Runner(rc=4, stdout="[WARNING]: x\nERROR! no testbed is up\nsee above\n")

    with pytest.raises(PlayError, match="no testbed is up"):
        playbook.play("base.yml", {}, testbed="t", runner=runner)


def test_plays_are_kept_in_folders_named_after_them_or_not_at_all(tmp_path):
    runner = Runner(STATS)

    playbook.play("base.yml", {}, testbed="t", artifacts=tmp_path / "plays", runner=runner)
    assert runner.options["private_data_dir"] == str(tmp_path / "plays")
    assert runner.options["ident"] == "base-1"
    (tmp_path / "plays/artifacts/base-1").mkdir(parents=True)
    playbook.play("heal.yml", {}, testbed="t", artifacts=tmp_path / "plays", runner=runner)
    assert runner.options["ident"] == "heal-2"

    playbook.play("base.yml", {}, testbed="t", runner=runner)
    assert not Path(runner.options["private_data_dir"]).exists()
