# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import sys

import pytest
import yaml

from pkgctl import project
from pkgctl.errors import SpecError, TestbedError
from pkgctl.remote import stack


@pytest.fixture
def prepared(lab):
    with stack.held(lab):
        stack.prepare(lab)
    return lab


def test_the_program_is_copied_to_be_run_by_this_interpreter(prepared):
    described = yaml.safe_load((prepared.program / "Pulumi.yaml").read_text())

    assert (prepared.program / "__main__.py").is_file()
    assert (prepared.program / "testbed").is_dir()
    assert described["name"] == stack.PROJECT
    if sys.prefix != sys.base_prefix:
        assert described["runtime"]["options"]["virtualenv"] == sys.prefix
    assert "virtualenv" not in stack.runtime("/usr", is_own=False)["options"]


def test_stacks_of_the_project_are_not_ours(prepared):
    assert list(prepared.program.glob("Pulumi.*.yaml")) == []
    assert list(prepared.program.rglob("__pycache__")) == []


def test_nobody_else_can_read_what_is_kept(prepared):
    assert prepared.run.stat().st_mode & 0o777 == 0o700
    assert prepared.passphrase.stat().st_mode & 0o777 == 0o600
    assert len(prepared.passphrase.read_text()) >= 32


def test_preparing_again_keeps_the_passphrase_and_what_pulumi_noted(prepared):
    passphrase = prepared.passphrase.read_text()
    path = prepared.program / "Pulumi.lab.yaml"
    path.write_text("encryptionsalt: v1:abc\n")

    stack.prepare(prepared)
    stack.write_settings(prepared, {"topology": "/t.yaml"})

    assert prepared.passphrase.read_text() == passphrase
    assert yaml.safe_load(path.read_text()) == {
        "encryptionsalt": "v1:abc",
        "config": {"pkgctl-testbed:topology": "/t.yaml"},
    }


def test_settings_come_back_as_they_were_given(prepared):
    given = {"topology": "/t.yaml", "hosts": [{"name": "here", "uri": "qemu:///system"}]}

    stack.write_settings(prepared, given)

    assert stack.settings(prepared) == given


def test_texts_of_numbers_and_flags_are_read():
    given = {"patience": "30", "replace_disks": "true", "topology": "12"}

    assert stack.read(given) == {"patience": 30, "replace_disks": True, "topology": "12"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({"topologie": "x"}, "did you mean topology?"), ({"patience": "soon"}, "is no integer")],
)
def test_settings_that_the_program_does_not_know_are_refused(settings, expected):
    with pytest.raises(SpecError) as error:
        stack.read(settings)

    assert expected in str(error.value)


def test_two_cannot_change_a_testbed_at_once(lab):
    with stack.held(lab), pytest.raises(TestbedError, match="another command"), stack.held(lab):
        pass
    with stack.held(lab):
        pass


def test_hosts_are_never_forgotten(prepared):
    assert stack.noted_hosts(prepared) == []

    stack.note_hosts(prepared, ["qemu:///system"])
    stack.note_hosts(prepared, ["qemu+ssh://two/system", "qemu:///system"])

    assert stack.noted_hosts(prepared) == ["qemu:///system", "qemu+ssh://two/system"]


def test_pulumi_needs_no_account_and_no_network(prepared):
    environment = stack.environment(prepared)

    assert environment["PULUMI_BACKEND_URL"] == prepared.backend.as_uri()
    assert environment["PULUMI_CONFIG_PASSPHRASE_FILE"] == str(prepared.passphrase)
    assert environment["PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"] == "true"
    assert "PULUMI_HOME" not in environment
    assert prepared.passphrase.read_text() not in environment.values()


def test_the_program_of_the_project_knows_the_settings_that_are_given(prepared):
    known = yaml.safe_load((project.folder("pulumi") / "Pulumi.yaml").read_text())["config"]

    assert {"topology", "provider", "testbed", "hosts", "image", "ssh_key", "network"} <= set(known)
