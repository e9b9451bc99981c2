# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pkgctl.errors import NodeLostError, SpecError
from pkgctl.remote import enter

RUNNING = {"pkgctl.lab.one": "running", "pkgctl.lab.two": "shut off"}


@pytest.fixture
def world(libvirt, far, running):
    libvirt.write(domains=RUNNING, networks={}, pools={}, volumes={})
    far.answers(**{"192_0_2_1": {"code": 0}})
    return running


def test_a_command_runs_in_the_nodes_own_group(world, far):
    assert enter.run(world, "one", ["echo", "a b"]) == 0

    sent = far.calls[-1]
    assert sent[-2] == "192.0.2.1"
    assert "pkgctl.slice session one echo 'a b'" in sent[-1]


def test_the_exit_code_is_the_commands(world, far):
    far.answers(**{"192_0_2_1": {"code": 42}})

    assert enter.run(world, "one", ["false"]) == 42


def test_a_node_that_is_off_is_refused_in_one_line(world, far):
    with pytest.raises(NodeLostError, match="node two is shut off: nothing starts there"):
        enter.run(world, "two", ["true"])
    assert far.calls == []


def test_a_node_that_was_crashed_is_called_so(world):
    world.node("one").mkdir(parents=True)
    (world.node("one") / "health.json").write_text(json.dumps({"dead": {"health": "crashed"}}))

    with pytest.raises(NodeLostError, match="node one is crashed: nothing starts there"):
        enter.run(world, "one", ["true"])


def test_a_node_that_nobody_knows_is_bad_input(world):
    with pytest.raises(SpecError, match="did you mean one"):
        enter.run(world, "onne", ["true"])


def test_a_node_that_runs_and_does_not_answer_is_lost(world, far):
    far.answers()

    with pytest.raises(NodeLostError, match="one does not answer: ssh: connect to host"):
        enter.run(world, "one", ["true"])


def joined(tmp_path, *command):
    """Run the wrapper as a node's shell would, with its groups in a folder."""
    words = enter.words({"cgroup": "pkgctl.slice"}, "one", command)
    words[2] = words[2].replace("/sys/fs/cgroup", str(tmp_path))
    return subprocess.run(words, capture_output=True, text=True)


def test_the_wrapper_joins_the_group_and_becomes_the_command(tmp_path):
    code = "import os; print(os.getpid(), os.environ['PKGCTL_NODE']); raise SystemExit(5)"

    done = joined(tmp_path, sys.executable, "-c", code)

    group = tmp_path / "pkgctl.slice" / "session" / "cgroup.procs"
    assert done.returncode == 5
    assert done.stdout.split() == [group.read_text().strip(), "one"]


def test_a_command_that_is_not_there_is_told_as_locally(tmp_path):
    done = joined(tmp_path, "no-such-command")

    assert (done.returncode, done.stderr) == (2, "pkgctl: no command 'no-such-command' on one\n")


def test_nothing_runs_outside_of_the_nodes_limits(tmp_path):
    (tmp_path / "pkgctl.slice").write_text("no folder")

    assert joined(tmp_path, "true").returncode == 1
