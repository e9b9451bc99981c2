# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest

from pkgctl.errors import SpecError
from pkgctl.image import furnish, recipe


def test_the_fingerprint_is_that_of_the_recipe():
    made = recipe.read()

    assert made.fingerprint() == recipe.read().fingerprint()
    assert len(made.fingerprint()) == 16 and int(made.fingerprint(), 16) >= 0


@pytest.mark.parametrize(
    "change",
    [
        {"packages": (*recipe.PACKAGES, "redis-server")},
        {"files": {"etc/hosts": b""}},
        {"init": b"#!/bin/sh\n"},
    ],
)
def test_whatever_is_changed_makes_another_image(change):
    made = recipe.read()

    assert dataclasses.replace(made, **change).fingerprint() != made.fingerprint()


def test_the_order_of_packages_and_a_package_named_twice_change_nothing():
    one = recipe.read(["redis-server", "tcpdump"]).fingerprint()

    assert recipe.read(["tcpdump", "redis-server", "python3"]).fingerprint() == one


@pytest.mark.parametrize("name", ["", "-o", "a b", "x,y", "Redis", "../x"])
def test_what_cannot_be_a_package_is_refused(name):
    with pytest.raises(SpecError, match=r"no name of a Debian package"):
        recipe.read([name])


def test_the_command_names_a_mirror_only_if_one_is_given():
    made = recipe.read()

    assert recipe.install(made, Path("/t"))[-2:] == [recipe.SUITE, "/t"]
    assert recipe.install(made, Path("/t"), "http://m/debian")[-1] == "http://m/debian"


@pytest.mark.parametrize(
    "name", [name for name, content in recipe.read().files.items() if content.startswith(b"#!")]
)
def test_our_shell_programs_are_shell(name):
    program = recipe.read().files[name]

    subprocess.run(["sh", "-n"], input=program, check=True)


def test_every_unit_that_is_switched_on_is_ours_and_there():
    there = recipe.read().files

    links = furnish.links()
    for unit in recipe.UNITS_ON:
        link = Path("etc/systemd/system/multi-user.target.wants") / unit
        target = link.parent.parent / links[str(link)].name
        assert str(target) in there


def test_a_tree_is_furnished_alike_twice_and_keeps_nothing_secret(tmp_path):
    (tmp_path / "etc/ssh").mkdir(parents=True)
    (tmp_path / "etc/ssh/ssh_host_rsa_key").write_text("SECRET")
    (tmp_path / "etc/hosts").write_text("10.0.0.1 builder\n")
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/vmlinuz-6").write_text("")
    rules = tmp_path / "usr/lib/udev/rules.d"
    rules.mkdir(parents=True)
    for name in ("60-block.rules", "78-sound-card.rules"):
        (rules / name).write_text("")

    for _ in range(2):
        furnish.furnish(tmp_path, recipe.read())

    assert not (tmp_path / "etc/ssh/ssh_host_rsa_key").exists()
    assert "builder" not in (tmp_path / "etc/hosts").read_text()
    assert list((tmp_path / "boot").iterdir()) == []
    assert (tmp_path / "etc/systemd/system/apt-daily.timer").readlink() == Path("/dev/null")
    assert [each.name for each in (tmp_path / "etc/udev/rules.d").iterdir()] == [
        "78-sound-card.rules"
    ]
    start = tmp_path / "usr/local/lib/pkgctl-seed/start"
    assert start.stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "etc/hosts").stat().st_mode & 0o777 == 0o644


def test_versions_are_those_of_what_is_installed():
    status = """\
Package: bash
Status: install ok installed
Version: 5.2-1
Description: a shell
 Package: none

Package: gone
Status: deinstall ok config-files
Version: 1
"""
    assert furnish.versions(status) == {"bash": "5.2-1"}
