# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import jobs
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import AgentError, KernelError
from ansible_collections.pkgctl.testbed.plugins.module_utils.jobkeeper import JobKeeper
from ansible_collections.pkgctl.testbed.plugins.module_utils.jobs import Job

from .agents import node


class Still:
    """A loop in which nothing happens."""

    def watch(self, *_):
        """Wait for nothing."""

    def at(self, *_):
        """Wait for nothing."""


class Keeper:
    """A keeper over a test's own folder, and what it told."""

    def __init__(self, folder):
        for name in ("agent", "jobs", "logs", "nodes/edge-1"):
            (folder / name).mkdir(parents=True)
        self._folder = folder
        self.nodes = {"edge-1": node(folder / "nodes" / "edge-1")}
        self.told = []

    def look_up(self, name):
        if name not in self.nodes:
            raise AgentError(f"there is no node {name!r}")
        return self.nodes[name]

    def begin(self):
        self.begun = JobKeeper(self._folder, Still(), self.look_up, self.told.append)
        return self.begun


@pytest.fixture
def keeper(tmp_path):
    made = Keeper(tmp_path)
    yield made
    made.begun._notify.close()


def job(**changes):
    return Job(**{"id": "web", "node": "edge-1", "argv": ["/bin/true"], **changes})


def test_a_job_whose_node_went_while_no_agent_ran_has_failed(keeper, tmp_path):
    job(status="running", pid=1, born=-1, stamps={"decided": 0.0}).save(tmp_path / "jobs")
    keeper.nodes.clear()

    found = keeper.begin().listing({})["jobs"]

    assert [each["status"] for each in found] == ["failed"]
    assert [each["status"] for each in keeper.told] == ["failed"]


def test_a_job_that_could_not_be_prepared_is_not_there(keeper, monkeypatch):
    begun = keeper.begin()

    def refuse(*_):
        raise KernelError("make a group", 28)

    monkeypatch.setattr(begun, "_prepare", refuse)
    with pytest.raises(KernelError, match="No space left"):
        begun.start({"id": "web", "node": "edge-1", "argv": ["/bin/true"]})

    assert begun.listing({}) == {"jobs": []}


def test_a_change_that_cannot_be_recorded_is_told_all_the_same(keeper, tmp_path, capsys):
    job(status="running", pid=1, born=-1, stamps={"decided": 0.0}).save(tmp_path / "jobs")
    (tmp_path / "jobs" / "web.new").mkdir()

    found = keeper.begin().listing({})["jobs"]

    assert [each["status"] for each in found] == ["failed"]
    assert "job web is not recorded: Is a directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("statuses", "together"),
    [
        ([], None),
        (["running", "starting"], "starting"),
        (["running", "running", "finished"], "running"),
        (["finished", "failed"], "finished"),
    ],
)
def test_the_jobs_of_a_service_have_a_status_together(keeper, tmp_path, statuses, together):
    begun = keeper.begin()
    begun._jobs.update({f"web-{i}": job(id=f"web-{i}", status=s) for i, s in enumerate(statuses)})
    begun._jobs["web-site-0"] = job(id="web-site-0", status="pulling")

    assert begun.status("web") == together
    assert begun.status("web-site-0") == begun.status("web-site") == "pulling"
    assert begun.status("site") is None


def test_a_job_that_ran_when_its_machine_went_down_is_lost_whoever_has_its_number_now(
    keeper, tmp_path
):
    ours = os.getpid()
    job(status="running", pid=ours, born=jobs.birth(ours)).save(tmp_path / "jobs")
    path = tmp_path / "jobs" / "web.json"
    known = json.loads(path.read_text())
    known["moment"]["boot"] = "another"
    path.write_text(json.dumps(known))

    (found,) = keeper.begin().listing({})["jobs"]

    assert (found["status"], found["lost"]) == ("failed", True)
    assert found["error"] == "node edge-1 was started again"
    assert "moment" not in found
    assert json.loads(path.read_text())["status"] == "failed"
