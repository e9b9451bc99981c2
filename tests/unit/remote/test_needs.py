# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from pkgctl import image
from pkgctl.errors import MissingCapability
from pkgctl.remote import needs
from tests.unit.remote import fakes

URI = "qemu:///system"


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A machine on which nothing is; its folder of programs."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(needs, "_SYSTEM", ())
    monkeypatch.setattr(image, "find", lambda spec: spec)
    return tmp_path


@pytest.fixture
def whole(bare):
    """One that has everything."""
    for name in ("pulumi", "xsltproc", "ssh", "ssh-keygen"):
        fakes.program(bare / "bin", name, "print('v3.260.0')")
    folder = bare / "home" / "plugins" / "resource-libvirt-v0.5.4"
    folder.mkdir(parents=True)
    fakes.program(folder, "pulumi-resource-libvirt", "")
    return fakes.Libvirt(bare)


def names(found):
    return [need.name for need in found]


def test_nothing_is_missing_where_everything_is(whole):
    assert needs.lacking([URI]) == []
    needs.check([URI])


def test_all_that_is_missing_is_named_at_once_with_the_official_way(bare):
    with pytest.raises(MissingCapability) as error:
        needs.check([URI])

    text = str(error.value)
    assert error.value.exit_code == 3 and "\n" not in text
    for way in (
        "https://www.pulumi.com/docs/install/",
        "pulumi plugin install resource libvirt 0.5.4",
        "apt-get install libvirt-clients",
        "apt-get install xsltproc",
        "apt-get install openssh-client",
    ):
        assert way in text


def test_pulumi_is_found_where_its_installer_puts_it(whole, bare):
    (bare / "bin" / "pulumi").unlink()
    assert "pulumi" in names(needs.lacking([URI]))

    fakes.program(bare / "home" / "bin", "pulumi", "")

    assert needs.lacking([URI]) == []


def test_another_version_of_the_plugin_does_not_count(whole, bare):
    plugins = bare / "home" / "plugins"
    (plugins / "resource-libvirt-v0.5.4").rename(plugins / "resource-libvirt-v0.5.3")

    assert names(needs.lacking([URI])) == ["the libvirt plugin 0.5.4 of pulumi"]


def test_a_host_that_cannot_be_reached_is_told_in_its_words(whole):
    found = needs.lacking([URI, "qemu+ssh://two/system"])

    assert names(found) == ["the libvirt host qemu+ssh://two/system"]
    assert found[0].detail.startswith("Failed to connect socket")
    assert "virsh -c qemu+ssh://two/system uri" in found[0].remedy


def test_without_an_image_it_is_said_how_to_build_one(whole, monkeypatch):
    def find(spec):
        raise MissingCapability("no image is built yet")

    monkeypatch.setattr(image, "find", find)

    assert [need.remedy for need in needs.lacking([URI])] == ["pkgctl image build"]
    assert needs.lacking([URI], image=None) == []


def test_a_folder_is_no_package(monkeypatch, tmp_path):
    (tmp_path / "emptyshell").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(needs, "_LIBRARIES", {"emptyshell": "emptyshell==1"})

    assert [need.remedy for need in needs.libraries()] == ["pip install emptyshell==1"]


def test_the_version_of_a_command_is_asked_of_it(whole, bare):
    assert needs.version(str(bare / "bin" / "pulumi")) == "3.260.0"
