# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import agentguard, channel, daemon
from ansible_collections.pkgctl.testbed.plugins.module_utils.agentguard import AgentGuard


class Loop:
    """Descriptors, times and children that a test brings about by hand."""

    def __init__(self):
        self.watched, self.later, self.children = {}, [], []

    def watch(self, descriptor, handler):
        self.watched[descriptor] = handler

    def forget(self, descriptor):
        del self.watched[descriptor]

    def at(self, when, action):
        self.later.append((when, action))

    def await_exit(self, pid, then):
        self.children.append((pid, then))

    def wait(self):
        """Do what comes next, and return when it would have come."""
        when, action = self.later.pop(0)
        action()
        return when

    def hang_up(self):
        """Tell that the one connection there is has ended."""
        (handler,) = self.watched.values()
        handler(1)

    def reap(self):
        pid, then = self.children.pop()
        os.waitpid(pid, 0)
        then(0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "agent").mkdir()

    def ensure(module, directory, path):
        (tmp_path / "started").write_text(f"{module} {directory} {path}")

    monkeypatch.setattr(daemon, "ensure", ensure)
    monkeypatch.setattr(agentguard.syscalls, "monotonic", lambda: clock[0])
    clock[0] = 100.0
    return tmp_path


clock = [100.0]


def listening(folder):
    return channel.listen(folder / "agent" / "agent.sock")


def test_an_agent_that_is_not_there_yet_is_looked_for_again(folder):
    loop = Loop()
    AgentGuard(folder, loop)
    assert loop.wait() == 101.0
    assert not loop.watched

    with listening(folder):
        loop.wait()

        assert len(loop.watched) == 1
        assert loop.later == []
        assert not (folder / "started").exists()
        loop.hang_up()


def test_an_agent_that_ended_is_started_by_a_child_and_found_again(folder):
    loop = Loop()
    with listening(folder):
        AgentGuard(folder, loop)
    (folder / "agent" / "agent.sock").unlink()
    clock[0] += 60.0
    loop.hang_up()

    assert loop.wait() == pytest.approx(160.05)

    with listening(folder):
        loop.reap()
        path = folder / "agent" / "agent.sock"
        assert (folder / "started").read_text() == f"agent {folder} {path}"
        assert len(loop.watched) == 1
        loop.hang_up()


def test_an_agent_that_somebody_else_started_is_not_started_twice(folder):
    loop = Loop()
    with listening(folder):
        AgentGuard(folder, loop)
        loop.hang_up()

        loop.wait()

        assert loop.children == []
        assert len(loop.watched) == 1
        loop.hang_up()


@pytest.mark.parametrize("gone", ["flag", "folder"])
def test_the_agent_of_a_testbed_that_goes_down_is_let_go(folder, gone):
    loop = Loop()
    with listening(folder):
        AgentGuard(folder, loop)
    (folder / "agent" / "agent.sock").unlink()
    if gone == "flag":
        (folder / daemon.DOWN).touch()
    else:
        (folder / "agent").rmdir()
    loop.hang_up()

    loop.wait()

    assert (loop.children, loop.watched, loop.later) == ([], {}, [])


def test_an_agent_that_the_machines_own_system_starts_is_only_looked_for(folder):
    loop = Loop()
    with listening(folder):
        AgentGuard(folder, loop)
    (folder / "agent" / "agent.sock").unlink()
    (folder / daemon.SERVICE).touch()
    loop.hang_up()

    loop.wait()

    assert loop.children == []
    with listening(folder):
        loop.wait()
        assert len(loop.watched) == 1
        loop.hang_up()


def test_an_agent_that_dies_young_is_started_later_and_later(folder):
    loop = Loop()
    pauses = []
    with listening(folder):
        AgentGuard(folder, loop)
        for _ in range(10):
            loop.hang_up()
            pauses.append(loop.wait() - clock[0])
        clock[0] += 60.0
        loop.hang_up()
        pauses.append(loop.wait() - clock[0])
        loop.hang_up()

    assert pauses[:3] == pytest.approx([0.1, 0.2, 0.4])
    assert pauses[-2:] == pytest.approx([5.0, 0.05])
