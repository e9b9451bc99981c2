# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import shlex
import subprocess
import time
from pathlib import Path

import pytest

from pkgctl.errors import MissingCapability, SpecError, TestbedError
from pkgctl.local.state import read_state
from pkgctl.remote import ssh


@pytest.fixture
def one(running):
    return ssh.target(read_state(running), "one")


def options(argv: list[str]) -> dict[str, str]:
    pairs = (argv[index + 1] for index, word in enumerate(argv) if word == "-o")
    return dict(pair.split("=", 1) for pair in pairs)


def test_host_keys_are_known_by_the_nodes_name_and_never_learnt(one):
    found = options(ssh.argv(one))

    assert found["StrictHostKeyChecking"] == "yes"
    assert found["HostKeyAlias"] == "one"
    assert found["GlobalKnownHostsFile"] == "/dev/null"
    assert found["BatchMode"] == "yes" and found["IdentitiesOnly"] == "yes"


def test_ssh_itself_takes_the_options_as_they_are_meant(one, tmp_path):
    odd = tmp_path / "a folder with 100% of it"
    there = ssh.Target("one", "192.0.2.1", odd / "key", odd / "hosts", jump="root@192.0.2.9:2222")
    argv = ssh.argv(there, "true")

    told = subprocess.run(
        [argv[0], "-G", *argv[1:-1]], capture_output=True, text=True, check=True
    ).stdout

    lines = dict(line.split(" ", 1) for line in told.splitlines() if " " in line)
    assert lines["hostkeyalias"] == "one" and lines["hostname"] == "192.0.2.1"
    assert lines["userknownhostsfile"] == str(odd / "hosts")
    assert lines["proxyjump"].replace("[", "").replace("]", "") == "root@192.0.2.9:2222"
    assert len(lines["controlpath"]) < 80


def test_each_word_reaches_the_nodes_shell_as_it_is(one):
    words = ["sh", "-c", "echo '$HOME' && exit 3", "a b"]

    assert shlex.split(ssh.argv(one, *words)[-1]) == words


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("qemu:///system", ""),
        ("qemu+unix:///system?socket=/a/b", ""),
        ("qemu+ssh://root@two/system", "root@two"),
        ("qemu+ssh://two:2222/system", "two:2222"),
    ],
)
def test_nodes_of_a_distant_host_are_reached_through_it(uri, expected):
    assert ssh.jump(uri) == expected


def test_a_command_gives_its_exit_code_and_words(far, one):
    far.answers(**{"192_0_2_1": {"code": 7, "output": "hello", "wanted": "question"}})

    done = ssh.run(one, "true", text="a question")

    assert (done.returncode, done.stdout) == (7, "hello")


def test_a_node_that_does_not_answer_is_told_in_sshs_last_words(far, one):
    with pytest.raises(TestbedError, match="one does not answer: ssh: connect to host: No route"):
        ssh.run(one, "true")
    assert "No route" in ssh.reach(one)


def test_without_ssh_its_package_is_named(monkeypatch, tmp_path, one):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(MissingCapability, match="apt-get install openssh-client"):
        ssh.run(one, "true")


def test_nodes_that_answer_are_told_of(far, running):
    far.answers(**{"192_0_2_1": {}, "192_0_2_2": {}})
    lines: list[str] = []

    ssh.wait_for_ssh(ssh.targets(read_state(running)), time.monotonic() + 10, lines.append)

    assert sorted(line.split()[0] for line in lines) == ["one", "two"]


def test_nodes_that_stay_silent_are_named_with_the_reason(far, running):
    far.answers(**{"192_0_2_1": {}})

    with pytest.raises(TestbedError, match="not reachable: two does not answer: ssh: connect"):
        ssh.wait_for_ssh(ssh.targets(read_state(running)), time.monotonic())


def test_a_record_without_access_is_no_record_of_machines(running):
    record = {key: value for key, value in read_state(running).items() if key != "access"}

    with pytest.raises(SpecError, match="lacks 'access'"):
        ssh.target(record, "one")


def test_the_sockets_of_shared_connections_are_nobody_elses(monkeypatch, tmp_path, one):
    folder = tmp_path / "shared"
    monkeypatch.setattr(ssh, "Path", lambda *parts: folder if parts[0] == "/tmp" else Path(*parts))

    assert options(ssh.argv(one))["ControlMaster"] == "auto"
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    assert options(ssh.argv(one))["ControlPath"] == "none"
