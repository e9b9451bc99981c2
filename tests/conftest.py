# SPDX-License-Identifier: GPL-3.0-or-later
"""Shared fixtures, and the skip with a reason for tests that this machine cannot run."""

from __future__ import annotations

import ctypes
import os
from functools import cache

import pytest
from hypothesis import HealthCheck, settings

from tests import needs

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWNET = 0x20000, 0x4000000, 0x8000000, 0x40000000

# A busy machine is slow, and that is no failure; the same examples each time make one repeatable.
settings.register_profile(
    "steady",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=100 if os.environ.get("CI") else 40,
)
settings.load_profile("steady")


@pytest.hookimpl(trylast=True)  # after -m: what is not to run needs nothing
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("root")]
    lacking = what_root_tests_lack() if marked else ""
    for item in marked if lacking else []:
        item.add_marker(pytest.mark.skip(reason=lacking))
    for item in items:
        marker = item.get_closest_marker("vm")
        reason = needs.lacking(*marker.args) if marker else ""
        marker = item.get_closest_marker("kubernetes")
        reason = reason or (needs.lacking_kubernetes(*marker.args) if marker else "")
        if reason and os.environ.get(needs.INSIST):
            pytest.exit(f"{item.name}: {reason}", returncode=3)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


@cache
def what_root_tests_lack() -> str:
    """Return why tests marked ``root`` cannot run here, or nothing."""
    if os.geteuid() != 0:
        return "needs root"
    if not _can_unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET):
        return "needs the right to make namespaces (CAP_SYS_ADMIN)"
    if not os.access("/sys/fs/cgroup", os.W_OK):
        return "needs a writable /sys/fs/cgroup"
    return ""


def _can_unshare(flags: int) -> bool:
    """Try it in a child, so that nothing of this process changes."""
    libc = ctypes.CDLL(None, use_errno=True)
    child = os.fork()
    if child == 0:
        os._exit(0 if libc.unshare(flags) == 0 else 1)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Refuse to call a session a success in which no test ran."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.exitstatus != 0 or session.config.option.collectonly or reporter is None:
        return
    if not any(reporter.stats.get(outcome) for outcome in ("passed", "xfailed")):
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
