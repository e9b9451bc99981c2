# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of the tree that no linter knows."""

from __future__ import annotations

import ast
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkgctl import errors

ROOT = Path(__file__).parents[2]
SPDX = "# SPDX-License-Identifier: GPL-3.0-or-later"
# Plugins of Ansible carry Ansible's own header.
ANSIBLE_HEADED = {"action", "connection", "doc_fragments", "inventory", "modules"}
PLUGINS = ROOT / "plugins"
NODE_SIDE = PLUGINS / "module_utils"
MODULES = sorted(path.stem for path in (PLUGINS / "modules").glob("*.py"))


def files(*folders: str, ending: str = ".py") -> Iterator[Path]:
    for folder in folders:
        found = (ROOT / folder).rglob(f"*{ending}")
        yield from (path for path in found if "__pycache__" not in path.parts)


def scripts() -> list[Path]:
    places = [
        ROOT / "run",
        ROOT / ".ci" / "run",
        *files("tests", "plugins", "ansible", ending=".sh"),
    ]
    return [path for path in places if path.is_file()]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


PYTHON = [path for path in files("pkgctl", "plugins", "tests") if not path.is_symlink()]


@pytest.mark.parametrize("path", [*PYTHON, *scripts()], ids=name_of)
def test_every_source_file_names_its_licence_at_the_top(path):
    lines = path.read_text().splitlines()[:6]

    if path.parent.name in ANSIBLE_HEADED and PLUGINS in path.parents:
        assert any("GNU General Public License v3.0+" in line for line in lines)
    else:
        assert SPDX in lines[:2]


@pytest.mark.parametrize("folder", ["pulumi", "ansible", "plugins"])
def test_folders_named_like_an_installed_package_are_no_packages(folder):
    assert [name_of(path) for path in files(folder) if path.name == "__init__.py"] == []


@pytest.mark.parametrize("path", scripts(), ids=name_of)
def test_every_shell_script_is_executable_and_stops_at_errors(path):
    text = path.read_text()

    assert os.access(path, os.X_OK)
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the level and the first part of the name of every import, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name.partition(".")[0]) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield node.level, (node.module or "").partition(".")[0]


@pytest.mark.parametrize("path", list(files("plugins/module_utils")), ids=name_of)
def test_what_is_copied_to_nodes_imports_the_standard_library_only(path):
    absolute = {name for level, name in imports(path) if level == 0}

    assert absolute - sys.stdlib_module_names == set()


@pytest.mark.parametrize("path", list(files("plugins/module_utils/programs")), ids=name_of)
def test_every_program_for_nodes_stands_alone(path):
    assert [name for level, name in imports(path) if level > 0] == []


def mapped() -> list[str]:
    """Return the modules in the map of the nodes' code, in its order."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    return re.findall(r"^\| [^|]*\| `([a-z0-9/]+)` \|", page, re.MULTILINE)


def test_the_map_of_the_nodes_code_has_every_module_once():
    there = [str(path.relative_to(NODE_SIDE).with_suffix("")) for path in files(str(NODE_SIDE))]

    assert sorted(mapped()) == sorted(there)


def error_classes() -> dict[str, type[errors.PkgctlError]]:
    found = {name: each for name, each in vars(errors).items() if isinstance(each, type)}
    return {name: each for name, each in found.items() if issubclass(each, errors.PkgctlError)}


@pytest.mark.parametrize("name", error_classes())
def test_every_error_is_in_the_tree_with_its_exit_code(name):
    lines = (errors.__doc__ or "").splitlines()
    row = next(line for line in lines if line.lstrip("│├└─ ").startswith(f"{name} "))

    assert f" {error_classes()[name].exit_code}  " in row


@pytest.mark.parametrize("path", list(files("pkgctl")), ids=name_of)
def test_errors_for_the_user_are_defined_in_one_place(path):
    if path.name == "errors.py":
        return
    classes = [
        node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)
    ]
    bases = {base.id for each in classes for base in each.bases if isinstance(base, ast.Name)}

    assert bases & set(error_classes()) == set()


@pytest.mark.parametrize("name", MODULES)
def test_every_module_is_described_in_the_documents(name):
    pages = "".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))

    assert f"pkgctl.testbed.{name}" in pages


def test_every_module_but_the_command_line_is_kept_from_click():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    kept = next(each for each in contracts if each.get("forbidden_modules") == ["click"])

    found = {
        path.stem for path in (ROOT / "pkgctl").iterdir() if path.suffix == ".py" or path.is_dir()
    }
    mine = {name for name in found if not name.startswith("__")} - {"cli", "share"}
    assert {name.removeprefix("pkgctl.") for name in kept["source_modules"]} == mine


def lives() -> set[str]:
    """Return the modules of the table LIVES, each of which is walked from creation to removal."""
    tree = ast.parse((ROOT / "tests" / "local" / "test_ansible.py").read_text())
    tables = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "LIVES"
    )
    return {str(ast.literal_eval(row)[0]) for table in tables for row in table.elts}


@pytest.mark.parametrize("name", MODULES)
def test_every_module_that_sets_a_layer_is_walked_through_its_life(name):
    sets_a_layer = "- pkgctl.testbed.layer\n" in (PLUGINS / "modules" / f"{name}.py").read_text()

    assert name in lives() or not sets_a_layer


@pytest.mark.parametrize("name", MODULES)
def test_every_module_is_called_by_a_test_or_a_playbook(name):
    texts = [path.read_text() for path in files("ansible", ending=".yml")]
    texts += [path.read_text() for path in files("tests/local")]

    assert name in lives() or any(f"pkgctl.testbed.{name}" in text for text in texts)
