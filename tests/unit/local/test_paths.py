# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from pkgctl.errors import SpecError
from pkgctl.local import paths
from pkgctl.local.paths import Paths
from pkgctl.nodeside import cgroups, hierarchies


@pytest.mark.parametrize("name", ["a", "default", "three-sites", "t0", "x" * 32])
def test_a_name_that_can_be_a_folder_and_a_group_is_taken(name):
    assert paths.paths(name) == Paths(name)


@pytest.mark.parametrize(
    "name", ["A", "-a", "a-", "a_b", "a.b", "../x", "a/b", "ü", " ", "a\n", "x" * 33]
)
def test_another_name_is_refused(name):
    with pytest.raises(SpecError, match="no name of a testbed: up to 32 small letters"):
        paths.paths(name)


def test_a_name_comes_from_the_caller_then_the_environment_then_the_default(monkeypatch):
    monkeypatch.delenv(paths.VARIABLE, raising=False)
    assert paths.paths().name == "default"

    monkeypatch.setenv(paths.VARIABLE, "lab")
    assert paths.paths().name == "lab"
    assert paths.paths("mine").name == "mine"


def test_a_wrong_name_in_the_environment_is_refused_too(monkeypatch):
    monkeypatch.setenv(paths.VARIABLE, "../etc")

    with pytest.raises(SpecError, match=r"\.\./etc"):
        paths.paths()


def test_everything_of_a_testbed_is_below_places_of_its_name():
    place = Paths("lab")
    found = [place.state, place.pins, place.agent, place.hosts, place.switch, place.node("n")]

    assert all(each.is_relative_to("/run/pkgctl/lab") for each in found)
    assert place.disks("n") == Path("/var/lib/pkgctl/lab/n")
    assert place.cgroup == f"{paths.GROUPS}/lab"


def test_the_switch_is_pinned_where_no_node_can_be():
    place = Paths("lab")

    assert place.switch.parent == place.namespaces("n").parent
    assert place.switch.name.startswith(".")


def test_testbeds_are_found_by_what_they_left_anywhere(tmp_path, monkeypatch):
    for place in ("run/one", "run/two", "store/two", "store/three", "run/Not-One"):
        (tmp_path / place).mkdir(parents=True)
    monkeypatch.setattr(paths, "RUN", tmp_path / "run")
    monkeypatch.setattr(paths, "STORE", tmp_path / "store")
    (tmp_path / "groups" / paths.GROUPS / "four" / "nodes").mkdir(parents=True)
    machine = hierarchies.Hierarchies({"pids": tmp_path / "groups"}, None, frozenset())
    monkeypatch.setattr(paths.cgroups, "group", lambda path: cgroups.Group(path, machine))

    assert paths.testbeds() == ["four", "one", "three", "two"]
