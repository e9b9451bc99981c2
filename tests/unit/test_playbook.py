# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from pkgctl import playbook, playguard
from pkgctl.errors import PlayError
from pkgctl.nodeside import records

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
        self.folder = Path(options["envvars"]["ANSIBLE_LOCAL_TEMP"]).parent
        self.told = Path(options["extravars"]).read_text()
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
    assert json.loads(runner.told) == {"bw": "5mbit"}
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


@pytest.mark.parametrize("event", ["runner_on_unreachable", "runner_item_on_failed"])
@pytest.mark.parametrize("end", ["", "dark", "failures"])
def test_who_has_failed_is_told_by_the_end_of_the_play(event, end):
    told = {**failure("edge-1", msg="it is crashed"), "event": event}
    counts = {**STATS["event_data"], **({end: {"edge-1": 1}} if end else {})}
    runner = Runner(told, {**STATS, "event_data": counts})

    played = playbook.play("base.yml", {}, testbed="t", runner=runner, strict=False)

    assert played.failures == ({"edge-1": "it is crashed"} if end else {})


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


def test_what_a_play_is_told_is_for_nobody_else_and_goes_with_it():
    modes = []

    class Looker(Runner):
        def __call__(self, **options):
            found = super().__call__(**options)
            modes.append(self.folder.stat().st_mode & 0o777)
            return found

    runner = Looker(STATS)
    playbook.play("perturb.yml", {"bw": "5mbit"}, testbed="t", runner=runner)

    assert Path(runner.options["extravars"]).parent == runner.folder
    assert modes == [0o700]
    assert not runner.folder.exists()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The folder of testbed t."""
    monkeypatch.setattr(records, "LOCAL", tmp_path)
    folder = tmp_path / "t"
    folder.mkdir()
    return folder


def test_a_play_removes_what_one_that_was_killed_has_left(home):
    ended = subprocess.Popen(["true"])
    ended.wait()
    left, other = home / f"pkgctl-play-{ended.pid}-x", home / f"pkgctl-play-{os.getpid()}-x"
    for folder in (left, other):
        folder.mkdir()

    runner = Runner(STATS)
    playbook.play("base.yml", {}, testbed="t", runner=runner)

    assert runner.folder.parent == home
    assert list(home.iterdir()) == [other]


def test_a_record_keeps_nobodys_environment(tmp_path):
    class Writer(Runner):
        def __call__(self, **options):
            folder = Path(options["private_data_dir"], "artifacts", options["ident"])
            folder.mkdir(parents=True)
            (folder / "command").write_text("the environment")
            (folder / "stdout").write_text("what was said")
            return super().__call__(**options)

    playbook.play("base.yml", {}, testbed="t", artifacts=tmp_path, runner=Writer(STATS))

    assert [path.name for path in (tmp_path / "artifacts/base-1").iterdir()] == ["stdout"]


STUCK = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - name: Wait
      ansible.builtin.shell: echo $$ >{marker}; exec sleep 600
"""
PLAY = """
import sys
from pathlib import Path
from pkgctl import playbook
from pkgctl.nodeside import records
records.LOCAL = Path(sys.argv[2])
playbook.play(sys.argv[1], {"word": "s3cr3t"}, testbed="t")
"""


def test_a_play_ends_with_whoever_asked_for_it(home, tmp_path):
    marker, stuck = tmp_path / "pid", tmp_path / "stuck.yml"
    stuck.write_text(STUCK.format(marker=marker))
    asker = subprocess.Popen([sys.executable, "-c", PLAY, str(stuck), str(tmp_path)])
    try:
        wait_until(lambda: marker.exists() and marker.read_text().strip())
        below = playguard.family(playguard._parents(), asker.pid) - {asker.pid}
        assert int(marker.read_text()) in below
        lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in below]
        assert any(b"ansible-playbook" in line for line in lines)
        assert not any(b"s3cr3t" in line for line in lines)
        assert len(list(home.iterdir())) == 1
    finally:
        asker.send_signal(signal.SIGKILL)
        asker.wait()

    wait_until(lambda: not any(map(is_running, below)))
    wait_until(lambda: not list(home.iterdir()))


def wait_until(true, patience=60.0):
    end = time.monotonic() + patience
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_family_is_all_that_is_below():
    parents = {1: 0, 2: 1, 3: 2, 4: 3, 5: 1, 6: 5}

    assert playguard.family(parents, 2) == {2, 3, 4}
    assert playguard.family(parents, 7) == set()


@pytest.mark.parametrize(("words", "status"), [("exit 3", 3), ("kill -TERM $$", 143)])
def test_what_is_guarded_ends_as_it_would_alone(tmp_path, words, status):
    done = guarded(os.getpid(), tmp_path, words)

    assert (done.returncode, done.stdout) == (status, "said\n")
    assert tmp_path.exists()


def test_nothing_starts_for_whoever_is_gone_already(tmp_path):
    folder = tmp_path / "play"
    folder.mkdir()
    other = subprocess.Popen(["sleep", "60"])
    try:
        done = guarded(other.pid, folder, "exit 0")
    finally:
        other.kill()
        other.wait()

    assert (done.returncode, done.stdout) == (1, "")
    assert not folder.exists()


def guarded(asker, folder, words):
    guard = [sys.executable, playguard.__file__, str(asker), str(folder)]
    return subprocess.run(
        [*guard, "sh", "-c", f"echo said; {words}"], capture_output=True, text=True, check=False
    )
