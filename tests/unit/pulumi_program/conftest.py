# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder of one's own for each test, an image, and topologies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from pkgctl import image
from pkgctl.remote import needs

SMALL = """\
name: small
sites:
  here: {access: lan}
  there: {access: 4g, location: {latitude: 1, longitude: 1}}
kinds:
  server: {role: cloud, cpu: 1500m, memory: 256Mi, disks: {data: {size: 64Mi, mount: /data}}}
  device: {role: edge, cpu: 250m, memory: 128Mi}
nodes:
  - {name: server, site: here, kind: server}
  - {name: "device-[1-2]", site: there, kind: device}
links:
  - {from: here, to: there, rate: 5mbit, delay: 20ms, symmetric: true}
"""


@dataclass(frozen=True)
class Picture:
    fingerprint: str = "f" * 16
    disk: Path = Path("/images/disk.qcow2")
    kernel: Path | None = Path("/images/vmlinuz")
    initrd: Path | None = Path("/images/initrd.img")
    cmdline: tuple[str, ...] = ("root=LABEL=pkgctl-root", "rw", "console=ttyS0")
    format: str = "qcow2"


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """The folder of all testbeds' records."""
    monkeypatch.setenv("PKGCTL_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture(autouse=True)
def lacking(monkeypatch):
    """What this machine is said to lack: nothing yet."""
    found: list[needs.Need] = []
    monkeypatch.setattr(needs, "lacking", lambda hosts, image: found)
    return found


@pytest.fixture
def picture(monkeypatch):
    """What every image is found to be."""
    found = Picture()
    monkeypatch.setattr(image, "find", lambda spec: found)
    return found


@pytest.fixture
def small(tmp_path):
    """A topology of three nodes of two kinds on two sites."""
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path
