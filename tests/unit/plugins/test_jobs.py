# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import jobs
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import DisturbanceError
from ansible_collections.pkgctl.testbed.plugins.module_utils.jobs import Job

from .agents import node


def job(**changes):
    return Job(**{"id": "web-1", "node": "edge-1", "argv": ["/bin/true"], **changes})


def test_a_request_that_can_be_meant_is_let_through():
    job(cpu=0.5, memory=1 << 20, ready="exec", id="A.b_c-1").check()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": ""}, "no name of a job"),
        ({"id": "../x"}, "no name of a job"),
        ({"id": ".hidden"}, "no name of a job"),
        ({"id": "x" * 64}, "63 at most"),
        ({"argv": []}, "argv must be a list of texts"),
        ({"argv": ["a\0b"]}, "argv must be a list of texts"),
        ({"argv": ["a", 1]}, "argv must be a list of texts"),
        ({"ready": "soon"}, "ready must be notify or exec, not 'soon'"),
        ({"cpu": 0}, "web-1: cpu must be above zero, not 0"),
        ({"memory": -1}, "web-1: memory must be above zero, not -1"),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused(changes, words):
    with pytest.raises(DisturbanceError, match=words):
        job(**changes).check()


def test_a_step_keeps_its_first_stamp():
    made = job(stamps={"submitted": 1.5})

    made.stamp("submitted")
    made.stamp("decided")

    assert made.stamps["submitted"] == 1.5
    assert made.stamps["decided"] > 0


@pytest.mark.parametrize(
    ("status", "ended"), [("running", False), ("pulling", False), ("stopped", True)]
)
def test_a_job_that_will_not_run_again_has_ended(status, ended):
    assert job(status=status).has_ended is ended


def test_records_are_found_again_and_broken_ones_left_out(tmp_path):
    first = job(stamps={"ready": 2.5}, artifact={"name": "web", "bytes": 5, "url": "http://x"})
    second = job(id="web-2", status="finished", exit=0)
    for each in (first, second):
        each.save(tmp_path)
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "strange.json").write_text('{"id": "x", "colour": "red"}')
    (tmp_path / "half.new").write_text("{}")

    assert jobs.load_all(tmp_path) == {"web-1": first, "web-2": second}


def test_a_job_has_its_group_below_its_nodes_unless_it_is_left_out_of_it(tmp_path):
    here = node(tmp_path)

    assert jobs.job_group(here, job()).path == "pkgctl/test/edge-1/job-web-1"
    assert jobs.job_group(here, job(outside=True)).path == "pkgctl/test/outside/web-1"


def test_a_jobs_own_environment_wins_and_knows_where_to_tell_that_it_is_ready():
    found = jobs.environment(job(env={"LANG": "de_AT", "X": "1"}))

    assert (found["LANG"], found["X"], found["PKGCTL_JOB"]) == ("de_AT", "1", "web-1")
    assert found["NOTIFY_SOCKET"].startswith("/run/pkgctl/agent/")


def test_a_process_is_named_by_its_birth_and_one_that_is_gone_has_none():
    assert jobs.birth(os.getpid()) == jobs.birth(os.getpid())
    assert jobs.birth(os.getpid()) > 0
    assert jobs.birth(2**22 + 1) is None


def rebooted(path, ago):
    """Rewrite a record as one of another boot, in which the machine had been up for longer."""
    known = json.loads(path.read_text())
    moment = known["moment"]
    known["moment"] = {
        "boot": "another",
        "mono": moment["mono"] + 5000.0,
        "wall": moment["wall"] - ago,
    }
    known["stamps"] = {step: when + 5000.0 for step, when in known["stamps"].items()}
    path.write_text(json.dumps(known))


def test_the_stamps_of_a_former_boot_are_converted_by_the_wall_clock(tmp_path):
    made = job(status="running")
    made.stamp("started")
    made.save(tmp_path)
    rebooted(tmp_path / "web-1.json", ago=60.0)

    (found,) = jobs.load_all(tmp_path).values()

    assert found.convert()
    assert found.stamps["started"] == pytest.approx(made.stamps["started"] - 60.0, abs=1.0)
    assert not found.convert()


def test_the_stamps_of_this_boot_are_as_they_were_written(tmp_path):
    made = job(stamps={"ready": 2.5})
    made.save(tmp_path)

    (found,) = jobs.load_all(tmp_path).values()

    assert not found.convert()
    assert found.stamps == {"ready": 2.5}
