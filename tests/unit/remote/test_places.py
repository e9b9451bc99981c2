# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from pkgctl.errors import SpecError, TestbedError
from pkgctl.local.paths import Paths
from pkgctl.local.state import read_state
from pkgctl.remote import names, places


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"PKGCTL_STATE": "/a/b"}, "/a/b"),
        ({"XDG_STATE_HOME": "/x"}, "/x/pkgctl"),
        ({"HOME": "/home/ann"}, "/home/ann/.local/state/pkgctl"),
    ],
)
def test_the_root_is_the_users_own(monkeypatch, environment, expected):
    for name in ("PKGCTL_STATE", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert places.root() == Path(expected)


def test_a_testbed_of_machines_is_laid_out_like_a_local_one(lab):
    assert lab.state == lab.run / "state.json"
    assert lab.node("one") == lab.run / "nodes" / "one"
    assert lab.key.name == "id_ed25519" and lab.key.parent == lab.run


def test_a_name_is_first_that_of_a_local_testbed(running, tmp_path):
    assert places.find("lab") == running and isinstance(places.find("lab"), places.Places)

    (tmp_path / "run" / "lab").mkdir(parents=True)

    assert type(places.find("lab")) is Paths


def test_where_nothing_is_a_name_is_taken_for_a_local_testbeds(lab):
    assert type(places.find("lab")) is Paths
    with pytest.raises(TestbedError, match="no testbed 'lab' is up"):
        read_state(places.find("lab"))


def test_the_record_is_read_like_a_local_state(running):
    assert read_state(places.find("lab"))["provider"] == "libvirt"


def test_each_provider_refuses_the_others_names(running, tmp_path):
    places.refuse_taken("lab", "libvirt")
    places.refuse_taken("free", "local")
    with pytest.raises(SpecError, match="with provider libvirt; take another name"):
        places.refuse_taken("lab", "local")

    (tmp_path / "store" / "here").mkdir(parents=True)

    places.refuse_taken("here", "local")
    with pytest.raises(SpecError, match="with provider local; take another name"):
        places.refuse_taken("here", "libvirt")


def test_the_testbeds_are_listed(running):
    (running.run.parent / "No_name").mkdir()
    (running.run.parent / "a-file").touch()

    assert places.testbeds() == ["lab"]


def test_no_testbeds_name_is_the_beginning_of_anothers():
    assert names.is_ours("a", names.domain("a", "b-c"))
    assert names.is_ours("a", names.pool("a"))
    assert names.is_ours("a", names.network("a", "data"))
    assert not names.is_ours("a", names.domain("a-b", "c"))
    assert not names.is_ours("a", names.pool("a-b"))
    assert not names.is_ours("a", "pkgctl.ab")
