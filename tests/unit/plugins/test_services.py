# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import quotas, services
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import (
    CapabilityError,
    DisturbanceError,
)
from ansible_collections.pkgctl.testbed.plugins.module_utils.services import Unit

from . import trees

MIB = 1 << 20


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    monkeypatch.setattr(services, "RUNTIME", tmp_path / "system")
    (tmp_path / "system").mkdir()
    return tmp_path / "system"


@pytest.mark.parametrize(
    ("shown", "unit"),
    [
        (
            "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\nNeedDaemonReload=no",
            Unit(is_there=True, active=True, enabled=True, stale=False, ready=True),
        ),
        (
            "LoadState=loaded\nActiveState=failed\nUnitFileState=disabled\nNeedDaemonReload=yes",
            Unit(is_there=True, active=False, enabled=False, stale=True),
        ),
        (
            "LoadState=loaded\nActiveState=activating\nUnitFileState=enabled\nNeedDaemonReload=no",
            Unit(is_there=True, active=True, enabled=True, stale=False),
        ),
        (
            "LoadState=loaded\nActiveState=deactivating\nUnitFileState=enabled\nNeedDaemonReload=no",
            Unit(is_there=True, active=False, enabled=True, stale=False, ending=True),
        ),
        (
            "LoadState=not-found\nActiveState=inactive\nUnitFileState=\nNeedDaemonReload=no",
            Unit(is_there=False, active=False, enabled=False, stale=False),
        ),
    ],
)
def test_a_unit_is_read_from_what_systemctl_shows(shown, unit):
    assert services.read(shown) == unit


def test_without_systemd_it_is_named_as_missing(runtime):
    runtime.rmdir()

    with pytest.raises(CapabilityError, match="not run by systemd"):
        services.systemctl("restart", "x.service")


def test_a_refusal_is_told_in_systemds_own_words(runtime, tmp_path, monkeypatch):
    tool = tmp_path / "systemctl"
    tool.write_text("#!/bin/sh\necho 'Unit x.service not found.' >&2; exit 5\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(DisturbanceError, match=r"systemctl restart x.service: Unit x.service not"):
        services.systemctl("restart", "x.service")


def test_a_slices_limits_are_written_down_for_systemd(runtime):
    services.keep_limits("pkgctl.slice", cpu=0.5, memory=64 * MIB, pids=100)

    (written,) = runtime.rglob("*.conf")
    assert written.parent.name == "pkgctl.slice.d"
    assert written.read_text().splitlines() == [
        *("[Slice]", "CPUQuota=50.00%", f"MemoryMax={64 * MIB}", "TasksMax=100")
    ]


def test_no_limit_is_written_down_as_none(runtime):
    services.keep_limits("pkgctl.slice", cpu=None, memory=None, pids=None)

    (written,) = runtime.rglob("*.conf")
    assert written.read_text() == "[Slice]\nCPUQuota=\nMemoryMax=infinity\nTasksMax=infinity\n"


@pytest.mark.parametrize("group", ["pkgctl/lab/nodes/edge-1", "pkgctl/x.slice", "pkgctl"])
def test_of_other_groups_systemd_is_not_told(runtime, group):
    services.keep_limits(group, cpu=1.0, memory=None, pids=None)

    assert list(runtime.iterdir()) == []


def test_whatever_changes_a_slice_keeps_systemd_informed(runtime, tmp_path):
    node = trees.node(trees.v2(tmp_path / "tree"))
    slice_ = type(node)("pkgctl.slice", node.machine)
    slice_.create()
    then = quotas.State(cpu=0.25, memory=MIB, pids=9)

    quotas.apply(slice_, quotas.read(slice_, []), then, tmp_path / "clamped.json")

    assert (slice_.cpu(), slice_.memory(), slice_.pids()) == (0.25, MIB, 9)
    (written,) = runtime.rglob("*.conf")
    assert "CPUQuota=25.00%" in written.read_text()
