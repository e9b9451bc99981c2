# SPDX-License-Identifier: GPL-3.0-or-later
"""What ansible-doc tells of the plugins, against what they really take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.pkgctl.testbed.plugins.module_utils import (
    bundling,
    measuring,
    preparing,
    settling,
    specifications,
    upkeep,
)

ROOT = Path(__file__).parents[3]
MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("*.py"))
SPECIFICATIONS = {
    "bundle": bundling.BUNDLE,
    "disk": specifications.DISK,
    "drift": measuring.DRIFT,
    "health": specifications.HEALTH,
    "layer": specifications.LAYER,
    "link": specifications.LINK,
    "machine": preparing.MACHINE,
    "measure": measuring.MEASURE,
    "node": settling.NODE,
    "quota": specifications.QUOTA,
    "stress": specifications.STRESS,
    "timeline": specifications.TIMELINE,
    "unit": upkeep.UNIT,
}


@cache
def told(kind: str, *names: str) -> dict[str, Any]:
    """Return what ansible-doc tells of plugins, by their short names."""
    full = [f"pkgctl.testbed.{name}" for name in names]
    done = subprocess.run(
        [f"{Path(sys.executable).parent}/ansible-doc", "--json", "-t", kind, *full],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible" / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return {name.rsplit(".", 1)[1]: body for name, body in json.loads(done.stdout).items()}


def options(documented: dict[str, Any]) -> dict[str, Any]:
    """Return options as a specification would have them."""
    keys = ("type", "choices", "required", "default")
    return {
        name: {key: body[key] for key in keys if body.get(key) not in (None, False)}
        | ({"options": options(body["suboptions"])} if "suboptions" in body else {})
        for name, body in documented.items()
    }


def specified(arguments: dict[str, Any]) -> dict[str, Any]:
    keys = ("type", "choices", "required", "default")
    return {
        name: {key: body[key] for key in keys if body.get(key) not in (None, False)}
        | ({"options": specified(body["options"])} if "options" in body else {})
        for name, body in arguments.items()
    }


@pytest.mark.parametrize("name", MODULES)
def test_a_module_has_its_description_examples_and_results(name):
    body = told("module", *MODULES)[name]

    assert body["doc"]["short_description"]
    assert body["doc"]["attributes"]["check_mode"]["support"] == "full"
    tasks = yaml.safe_load(body["examples"])
    assert all(f"pkgctl.testbed.{name}" in task and task["name"][0].isupper() for task in tasks)
    assert all(found["description"] and found["returned"] for found in body["return"].values())


@pytest.mark.parametrize("name", sorted(SPECIFICATIONS))
def test_a_module_documents_exactly_what_it_takes(name):
    documented = told("module", *MODULES)[name]["doc"]["options"]

    assert options(documented) == specified(SPECIFICATIONS[name]["argument_spec"])


def test_every_module_is_on_its_page():
    page = (ROOT / "docs" / "modules.md").read_text()

    assert [name for name in MODULES if f"\n## {name}\n" not in page] == []


@pytest.mark.parametrize(("kind", "name"), [("connection", "node"), ("inventory", "testbed")])
def test_the_ways_in_are_documented(kind, name):
    assert told(kind, name)[name]["doc"]["description"]
