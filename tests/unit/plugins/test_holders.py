# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import holders
from ansible_collections.pkgctl.testbed.plugins.module_utils.holders import Holder


def test_the_holders_of_a_device_are_named(tmp_path):
    with (tmp_path / "file").open("w") as file:
        found = holders.holders(os.fstat(file.fileno()).st_dev)

    assert os.getpid() in [holder.pid for holder in found]
    assert all(holder.command for holder in found)


def test_a_program_that_is_mapped_from_a_device_holds_it():
    mapped = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    major, minor = next(words[3] for words in mapped if words[4] != "0").split(":")

    assert holders._maps("/proc/self", os.makedev(int(major, 16), int(minor, 16)))
    assert not holders._maps("/proc/self", os.makedev(250, 250))


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ("0::/user.slice/session-2.scope\n", ""),
        ("0::/pkgctl/default/nodes/edge-1/job-web\n", "job web on edge-1"),
        ("0::/pkgctl/default/nodes/edge-1/session\n", "a session on edge-1"),
        ("0::/pkgctl/default/nodes/edge-1\n", "node edge-1"),
        ("0::/pkgctl/default/outside/load\n", "job load"),
        ("0::/machine/pkgctl/default/nodes/edge-1/job-web\n", "job web on edge-1"),
        (
            "5:blkio:/pkgctl/t/nodes/edge-1\n4:cpu,cpuacct:/pkgctl/t/nodes/edge-1/job-a.b\n",
            "job a.b on edge-1",
        ),
        ("3:name=systemd:/\n2:pids:/pkgctl/t/agent\n", ""),
        ("0::/pkgctl.slice/job-web\n", "job web"),
        ("0::/pkgctl.slice/pkgctl-jobs.slice\n", ""),
        ("?", ""),
    ],
)
def test_a_process_belongs_to_the_job_or_node_in_whose_group_it_is(groups, words):
    assert holders.belonging(groups) == words


def test_a_holder_is_shown_with_what_it_belongs_to():
    assert Holder(7, "python3", "job web on edge-1").show() == "python3 (pid 7, job web on edge-1)"
    assert Holder(7, "cat").show() == "cat (pid 7)"


def test_of_many_holders_some_are_named_and_all_are_counted(tmp_path, monkeypatch):
    many = [Holder(pid, "cat") for pid in range(1, 9)]
    monkeypatch.setattr(holders, "holders", lambda _: many)

    error = holders.busy(str(tmp_path))

    assert str(error).startswith(f"{tmp_path} is in use by cat (pid 1), ")
    assert "cat (pid 5) and 3 more; stop it first, or choose how: lazy or force" in str(error)


def test_a_disk_that_is_held_by_nobody_in_sight_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(holders, "holders", lambda _: [])

    assert "in use by a mount or a process elsewhere" in str(holders.busy(str(tmp_path)))
