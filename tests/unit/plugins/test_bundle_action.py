# SPDX-License-Identifier: GPL-3.0-or-later
"""The action of the module bundle, between a controller and a node that are folders of a test's."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleConnectionFailure, AnsibleError

from ansible_collections.pkgctl.testbed.plugins.action import bundle
from ansible_collections.pkgctl.testbed.plugins.module_utils import bundling, landing
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import DisturbanceError
from tests import releases
from tests.releases import VERSION

ARCH = bundling.arch_of(os.uname().machine)


class Action(bundle.ActionModule):
    """The action with the ways to a node replaced by calls on this machine."""

    def __init__(self, *, become=None, user: str = "0", check: bool = False) -> None:
        self._connection = SimpleNamespace(become=become)
        self._task = SimpleNamespace(check_mode=check)
        self._loader = SimpleNamespace(path_dwim=lambda path: path)
        self._variables: dict[str, object] = {}
        self.user = user
        self.heard: list[str] = []
        self.harm = lambda: None

    def _execute_module(self, module_args, task_vars):
        self.heard.append(module_args["step"])
        options = {name: None for name in bundling.BUNDLE["argument_spec"]}
        try:
            done = bundling.bring({**options, **module_args}, dry_run=self._task.check_mode)
        except DisturbanceError as error:
            return {"failed": True, "msg": str(error), "invocation": module_args}
        return {**done, "invocation": module_args}

    def _transfer_file(self, local_path, remote_path):
        self.harm()
        self.heard.append("transfer")
        shutil.copyfile(local_path, remote_path)

    def _low_level_execute_command(self, cmd, sudoable=True, in_data=None):
        if cmd == "id -u" and not sudoable:
            return {"rc": 0, "stdout": f"{self.user}\n", "stderr": ""}
        assert sudoable
        self.harm()
        self.heard.append("command")
        done = subprocess.run(["sh", "-c", cmd], input=in_data, capture_output=True, check=False)
        return {"rc": done.returncode, "stdout": "", "stderr": done.stderr.decode()}


@pytest.fixture
def folder(tmp_path):
    return releases.bundle(tmp_path / "bundle", arch=ARCH)


@pytest.fixture
def options(tmp_path, folder):
    known = {name: each.get("default") for name, each in bundling.BUNDLE["argument_spec"].items()}
    places = {"bin_dir": "bin", "images_dir": "images", "link": "bin/k3s"}
    node = {key: str(tmp_path / "node" / name) for key, name in places.items()}
    return {**known, **node, "path": str(folder), "activate": True}


def names(tmp_path) -> set[str]:
    return {path.name for path in (tmp_path / "node").rglob("*") if not path.is_dir()}


def test_only_what_is_lacking_is_sent(tmp_path, options):
    action = Action()

    first = action._bring(options)
    (tmp_path / "node" / "bin" / f"k3s-{VERSION}").unlink()
    second = action._bring(options)
    third = action._bring(options)

    steps = ["look", "prepare", "transfer", "transfer", "install"]
    assert action.heard == [*steps, "look", "prepare", "transfer", "install", "look"]
    assert [each["changed"] for each in (first, second, third)] == [True, True, False]
    assert not {"invocation", "lacking", "todo"} & first.keys()


@pytest.mark.parametrize("check", [False, True])
def test_what_is_not_as_locked_is_not_sent(tmp_path, options, folder, check):
    images = next((folder / ARCH).glob("*images*"))
    images.write_bytes(images.read_bytes()[:-1] + b"!")
    action = Action(check=check)

    with pytest.raises(ValueError, match=r"has the sha256 .*; its lock says"):
        action._bring(options)

    assert action.heard == ["look"]
    assert not (tmp_path / "node").exists()


def test_in_check_mode_the_node_is_only_looked_at(tmp_path, options):
    action = Action(check=True)

    assert action._bring(options)["changed"]
    assert action.heard == ["look"]
    assert not (tmp_path / "node").exists()


@pytest.mark.parametrize(
    ("become", "user", "way"),
    [(None, "1000", "transfer"), ("sudo", "0", "transfer"), ("sudo", "1000", "command")],
)
def test_who_has_to_become_root_sends_files_as_root(
    tmp_path, options, folder, monkeypatch, become, user, way
):
    monkeypatch.setattr(bundle, "_CHUNK", 300)
    action = Action(become=become, user=user)

    action._bring(options)

    assert set(action.heard) == {"look", "prepare", way, "install"}
    images = next((tmp_path / "node" / "images").iterdir())
    assert images.read_bytes() == next((folder / ARCH).glob("*images*")).read_bytes()
    assert action.heard.count("command") in (0, 5)


@pytest.mark.parametrize("user", ["0", "1000"])
def test_what_cannot_be_sent_leaves_nothing_behind(tmp_path, options, user):
    action = Action(become="sudo", user=user)

    def fill() -> None:
        if "transfer" in action.heard or "command" in action.heard:
            raise AnsibleError("No space left\non device")

    action.harm = fill
    with pytest.raises(bundle._Failed) as caught:
        action._bring(options)

    assert caught.value.report == {"failed": True, "msg": "No space left on device"}
    assert action.heard[-1] == "tidy"
    assert names(tmp_path) == set()


def test_a_command_that_fails_says_why(tmp_path, options):
    action = Action(become="sudo", user="1000")
    action.harm = lambda: shutil.rmtree(tmp_path / "node" / "images" / landing.STAGE)

    with pytest.raises(bundle._Failed, match=r"cannot send .*images.*: .*"):
        action._bring(options)


def test_a_node_that_is_lost_meanwhile_is_not_asked_again(options):
    action = Action()

    def lose() -> None:
        raise AnsibleConnectionFailure("node edge-1 is crashed")

    action.harm = lose
    with pytest.raises(AnsibleConnectionFailure):
        action._bring(options)

    assert action.heard == ["look", "prepare"]


def test_what_is_damaged_on_its_way_is_not_installed(tmp_path, options):
    action = Action()
    real = action._transfer_file

    def damage(local_path, remote_path):
        real(local_path, remote_path)
        with Path(remote_path).open("ab") as file:
            file.write(b"!")

    action._transfer_file = damage
    with pytest.raises(bundle._Failed, match="arrived on the node with the sha256"):
        action._bring(options)

    assert action.heard[-2:] == ["install", "tidy"]
    assert names(tmp_path) == set()


def test_a_node_cannot_ask_for_another_file_than_the_locks(tmp_path, options, monkeypatch):
    action = Action()
    real = action._execute_module

    def lie(module_args, task_vars):
        told = real(module_args, task_vars)
        for each in told.get("lacking", ()):
            each["file"] = "../secret"
        return told

    (tmp_path / "secret").write_text("secret")
    action._execute_module = lie
    with pytest.raises(ValueError, match="the node asks for what the bundle does not hold"):
        action._bring(options)

    assert "transfer" not in action.heard


def test_absent_needs_no_bundle(tmp_path, options):
    action = Action()
    action._bring(options)

    gone = action._bring({**options, "path": None, "state": "absent"})

    assert gone["changed"]
    assert names(tmp_path) == set()
