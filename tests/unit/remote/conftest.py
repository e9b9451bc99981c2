# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os

import pytest

from pkgctl.remote import places
from tests.unit.remote import fakes


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """A folder that comes first on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.fixture
def libvirt(tmp_path, tools):
    return fakes.Libvirt(tmp_path)


@pytest.fixture
def far(tmp_path, tools):
    """What answers by SSH."""
    return fakes.Ssh(tmp_path)


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """The places of a testbed of virtual machines that is not there yet."""
    monkeypatch.setenv(places.VARIABLE, str(tmp_path / "state"))
    monkeypatch.setattr(places.local, "RUN", tmp_path / "run")
    monkeypatch.setattr(places.local, "STORE", tmp_path / "store")
    return places.places("lab")


@pytest.fixture
def running(lab):
    """A testbed of two virtual machines, as far as it is files."""
    lab.run.mkdir(parents=True)
    lab.state.write_text(json.dumps(fakes.record(lab.run, one="192_0_2_1", two="192_0_2_2")))
    return lab
