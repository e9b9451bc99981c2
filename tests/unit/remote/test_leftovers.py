# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest

from pkgctl.errors import TestbedError
from pkgctl.remote import leftovers


@pytest.fixture
def lock(lab):
    """Write a lock such as Pulumi's."""

    def write(**content):
        path = lab.backend / ".pulumi" / "locks" / "organization" / "p" / "lab" / "1.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"hostname": socket.gethostname(), **content}))
        return path

    return write


@pytest.fixture
def helper(tmp_path):
    """A process named like Pulumi, that leads a session and has a helper in it."""
    program = tmp_path / "pulumi"
    program.symlink_to(sys.executable)
    code = (
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)', 'pulumi-helper'],"
        " stdin=subprocess.DEVNULL)\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [program, "-S", "-E", "-c", code], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout.readline() == b"ready\n"
    yield process
    leftovers.end_helpers(process.pid, patience=0.0)
    process.kill()
    process.wait()
    process.stdout.close()


def test_where_no_lock_is_nothing_was_cut_short(lab):
    assert leftovers.clear(lab) is False


def test_the_lock_of_a_process_that_is_gone_goes(lab, lock):
    gone = subprocess.Popen(["true"])
    gone.wait()
    path = lock(pid=gone.pid)

    assert leftovers.clear(lab) is True
    assert not path.exists()


def test_a_number_that_another_process_has_now_is_no_owner(lab, lock):
    path = lock(pid=os.getpid())

    assert leftovers.clear(lab) is True
    assert not path.exists()


def test_a_lock_that_cannot_be_read_goes(lab, lock):
    path = lock()
    path.write_text("")

    assert leftovers.clear(lab) is True


def test_an_owner_that_runs_is_waited_for_and_named(lab, lock, helper):
    path = lock(pid=helper.pid)

    with pytest.raises(TestbedError, match=f"process {helper.pid} on "):
        leftovers.clear(lab, patience=0.0)
    assert path.exists() and helper.poll() is None


def test_an_owner_elsewhere_is_never_taken_for_dead(lab, lock):
    lock(pid=1, hostname="elsewhere")

    with pytest.raises(TestbedError, match="process 1 on elsewhere"):
        leftovers.clear(lab, patience=0.0)


def test_helpers_of_an_owner_that_was_killed_end(lab, lock, helper):
    lock(pid=helper.pid)
    helper.kill()
    os.waitid(os.P_PID, helper.pid, os.WEXITED | os.WNOWAIT)
    assert len(list(leftovers._helpers(helper.pid))) == 1

    assert leftovers.clear(lab) is True
    assert list(leftovers._helpers(helper.pid)) == []
