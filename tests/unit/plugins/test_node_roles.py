# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles that make a machine a node, and the action that sends the nodes' code."""

from __future__ import annotations

import base64
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from ansible_collections.pkgctl.testbed.plugins.action.machine import ActionModule
from ansible_collections.pkgctl.testbed.plugins.module_utils import preparing, settling
from ansible_collections.pkgctl.testbed.plugins.plugin_utils import packing

ROLES = Path(__file__).parents[3] / "ansible" / "roles"
TASKS = [
    (role.name, task)
    for role in sorted(ROLES.iterdir())
    if role.name in ("base", "node_agent")
    for task in yaml.safe_load((role / "tasks" / "main.yml").read_text())
]
SPECIFICATIONS = {"machine": preparing.MACHINE, "node": settling.NODE}


@pytest.mark.parametrize(("role", "task"), TASKS, ids=lambda each: str(each)[:20])
def test_a_role_tells_its_modules_what_they_take(role, task):
    (module,) = [key for key in task if key.startswith("pkgctl.testbed.")]
    known = SPECIFICATIONS[module.rpartition(".")[2]]["argument_spec"]

    assert set(task[module]) <= set(known)


@pytest.mark.parametrize("role", ["base", "node_agent"])
def test_every_template_of_a_role_is_used(role):
    used = (ROLES / role / "tasks" / "main.yml").read_text()

    assert all(path.name in used for path in (ROLES / role / "templates").iterdir())


def test_a_playbook_costs_a_machine_three_tasks():
    assert len(TASKS) == 3


def action(installed, *, check=False, **options):
    """Return the action over a machine with some code, and what its module was told."""
    told = {}
    made = ActionModule.__new__(ActionModule)
    made._task = SimpleNamespace(args=options, check_mode=check)
    made._low_level_execute_command = lambda *_, **__: {"stdout": f"{installed}\n"}
    made.validate_argument_spec = lambda argument_spec, **_: (
        None,
        {name: options.get(name, spec.get("default")) for name, spec in argument_spec.items()},
    )
    made._execute_module = lambda module_args, task_vars: told.update(module_args) or {}
    return made, told


def run(made, monkeypatch):
    monkeypatch.setattr(ActionModule.__mro__[1], "run", lambda *_, **__: {})
    return made.run()


def test_a_machine_with_other_code_is_sent_ours(monkeypatch):
    made, told = action("another", code=True)

    run(made, monkeypatch)

    assert told["digest"] == packing.pack().digest
    assert base64.b64decode(told["archive"]) == packing.pack().content


@pytest.mark.parametrize(("is_there", "check"), [(True, False), (False, True)])
def test_nothing_is_sent_that_is_there_or_only_looked_at(monkeypatch, is_there, check):
    made, told = action(packing.pack().digest if is_there else "", check=check, code=True)

    run(made, monkeypatch)

    assert told["digest"] == packing.pack().digest
    assert "archive" not in told


def test_without_code_the_machine_is_not_even_asked(monkeypatch):
    made, told = action("another", folders=["/x"])

    run(made, monkeypatch)

    assert told["folders"] == ["/x"]
    assert "digest" not in told
