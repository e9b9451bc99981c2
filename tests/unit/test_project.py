# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from pkgctl import project
from pkgctl.errors import SpecError


@pytest.fixture
def shelf(tmp_path):
    folder = tmp_path / "shelf"
    folder.mkdir()
    for name in ("scaling.yaml", "bandwidth.yml", "notes.txt"):
        (folder / name).write_text("name: x\n")
    return folder


def find(name, shelf, beside=None):
    return project.find("experiment", name, shelf, beside=beside)


def test_the_folders_of_this_checkout_are_found():
    assert (project.ansible() / "ansible.cfg").is_file()
    assert (project.programs() / "service.py").is_file()
    assert (project.topologies() / "duo.yaml").is_file()
    assert project.inventories().is_dir()


def test_an_installation_keeps_its_folders_inside_the_package(tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "pkgctl"
    plugins = package.parent / "ansible_collections" / "pkgctl" / "testbed" / "plugins"
    for folder in (package / "share" / "ansible", plugins):
        folder.mkdir(parents=True)
    monkeypatch.setattr(project, "PACKAGE", package)

    assert project.ansible() == package / "share" / "ansible"
    assert project.plugins() == plugins
    with pytest.raises(FileNotFoundError, match="installation is incomplete"):
        project.experiments()


@pytest.mark.parametrize("name", ["scaling", "scaling.yaml"])
def test_a_name_is_found_on_the_shelf_with_or_without_its_suffix(shelf, name):
    assert find(name, shelf) == shelf / "scaling.yaml"


def test_both_spellings_of_the_suffix_are_known(shelf):
    assert find("bandwidth", shelf).name == "bandwidth.yml"
    assert project.names(shelf) == ["bandwidth", "scaling"]


def test_a_file_beside_the_mention_comes_before_the_shelf(shelf, tmp_path):
    (tmp_path / "scaling.yaml").write_text("name: mine\n")

    assert find("scaling", shelf, beside=tmp_path) == tmp_path / "scaling.yaml"


def test_a_path_is_not_looked_up_on_the_shelf(shelf, tmp_path):
    with pytest.raises(SpecError, match="no experiment"):
        find("./scaling.yaml", shelf, beside=tmp_path)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("scalng", "did you mean scaling"),
        ("scaling.yml", "did you mean scaling?"),
        ("gone/scaling.yaml", "no folder gone"),
        ("shelf/scalin.yaml", "did you mean scaling.yaml"),
        ("./shelf", "./shelf is a folder"),
        ("shelf", "shelf is a folder"),
        ("/dev/null", "/dev/null is no regular file"),
        ("x" * 9999, "known are bandwidth, scaling"),
    ],
)
def test_what_is_not_there_is_named_with_the_nearest(shelf, tmp_path, name, hint):
    with pytest.raises(SpecError) as caught:
        find(name, shelf, beside=tmp_path)

    assert hint in str(caught.value)
    assert len(str(caught.value)) < 600
