# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import channel, daemon, performing
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import AgentError
from ansible_collections.pkgctl.testbed.plugins.plugin_utils import agents, packing

MODULES = {path.stem for path in (Path(__file__).parents[3] / "plugins" / "modules").glob("*.py")}


def request(**changes):
    known = {"module": "quota", "digest": "abc", "options": {"layer": "x"}, "dry_run": True}
    return {**known, **changes}


def test_every_work_has_its_module():
    assert performing.WORKS.keys() <= MODULES
    # What is done on the controller alone, or for all agents, is not among them.
    assert MODULES - performing.WORKS.keys() >= {"health", "timeline", "perturbation"}


@pytest.mark.parametrize(
    ("changes", "code", "error"),
    [
        ({"digest": "abd"}, "abc", "this agent has other code"),
        ({"digest": ""}, "", "this agent has other code"),
        ({"module": "health"}, "abc", "unknown module; known are link, quota"),
    ],
)
def test_what_is_not_to_be_done_here_is_refused(changes, code, error):
    with pytest.raises(AgentError, match=error):
        performing.read(request(**changes), code)


def test_a_work_reports_or_fails_in_one_line(monkeypatch):
    told = []

    def work(options, *, dry_run):
        told.append((options, dry_run))
        if options["layer"] == "bad":
            raise ValueError("layer: bad")
        return {"changed": True}

    monkeypatch.setattr(performing, "WORKS", {"quota": work})
    monkeypatch.setattr(performing, "_OOM", Path("/none/oom"))

    assert performing.read(request(), "abc")() == {"report": {"changed": True}}
    bad = performing.read(request(options={"layer": "bad"}, dry_run=False), "abc")
    assert bad() == {"report": {"failed": True, "msg": "layer: bad"}}
    assert told == [({"layer": "x"}, True), ({"layer": "bad"}, False)]


def test_the_code_knows_the_archive_it_came_from(tmp_path, monkeypatch):
    monkeypatch.setattr(daemon, "import_root", lambda: tmp_path)
    assert performing.digest() == ""

    (tmp_path / performing.DIGEST).write_text("abc\n")
    assert performing.digest() == "abc"


class Agent:
    """Answers each request with some lines, and stays connected as an agent does."""

    def __init__(self, path, lines):
        self._server = channel.listen(path)
        self._lines, self.heard = lines, []
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _serve(self):
        client, _ = self._server.accept()
        with client, client.makefile("rwb") as lines:
            self.heard.append(json.loads(lines.readline()))
            lines.write(b"".join(channel.encode(line) for line in self._lines))
            lines.flush()
            lines.readline()


@pytest.mark.parametrize(
    ("lines", "report"),
    [
        ([{"ok": True}, {"report": {"changed": True}}], {"changed": True}),
        ([{"ok": False, "error": "this agent has other code"}], None),
        (
            [{"ok": True}, {"error": "the child that did it was killed"}],
            {
                "failed": True,
                "msg": "the agent ended before it was done: the child that did it was killed",
            },
        ),
    ],
)
def test_the_program_brings_a_request_to_the_agent_and_its_report_back(
    tmp_path, monkeypatch, lines, report
):
    place = tmp_path / "agent.sock"
    monkeypatch.setattr(agents, "SOCKET", str(place))
    agent = Agent(place, lines)

    def execute(command, told):
        done = subprocess.run(
            ["sh", "-c", command], input=told, capture_output=True, timeout=20, check=False
        )
        return {"rc": done.returncode, "stdout": done.stdout.decode(), "stderr": ""}

    try:
        found = agents.perform(
            "quota", {"layer": "x"}, dry_run=True, python=sys.executable, execute=execute
        )
    finally:
        agent.close()

    assert found == report
    (heard,) = agent.heard
    assert heard == {"op": "perform", **request(digest=packing.pack().digest)}


def test_where_no_agent_listens_the_module_has_to_go(tmp_path, monkeypatch):
    monkeypatch.setattr(agents, "SOCKET", str(tmp_path / "none"))

    def execute(command, told):
        done = subprocess.run(["sh", "-c", command], input=told, capture_output=True, check=False)
        return {"rc": done.returncode, "stdout": done.stdout.decode(), "stderr": ""}

    found = agents.perform("quota", {}, dry_run=True, python=sys.executable, execute=execute)
    assert found is None
