# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest

from pkgctl.remote import politely

WAITING = """
import signal, sys, time
def end(*_):
    print("ending", flush=True)
    sys.exit(3)
signal.signal(signal.SIGINT, end)
print("ready", flush=True)
time.sleep(60)
"""


def run(code, heard=None):
    return politely.run([sys.executable, "-c", code], "/", dict(os.environ), heard)


def test_what_a_command_says_is_heard_line_by_line():
    lines: list[str] = []

    done = run(
        "import sys; print('a'); print('b'); print('no', file=sys.stderr); sys.exit(4)",
        lines.append,
    )

    assert lines == ["a", "b"] and done.stdout == "a\nb"
    assert (done.returncode, done.stderr) == (4, "no")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_waits_for_the_command_to_end_in_order(number):
    lines: list[str] = []
    before = signal.getsignal(number)

    def heard(line):
        lines.append(line)
        if line == "ready":
            os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt):
        run(WAITING, heard)

    assert lines == ["ready", "ending"]
    assert signal.getsignal(number) is before


def test_a_terminals_interruption_does_not_reach_the_command_twice():
    done = run("import os; print(os.getsid(0) == os.getpid())")

    assert done.stdout == "True"


def test_other_threads_may_run_one_too():
    found = []
    thread = threading.Thread(target=lambda: found.append(run("print(1)").stdout))
    thread.start()
    thread.join()

    assert found == ["1"]


def test_a_command_ends_when_we_are_killed(tmp_path):
    mark = tmp_path / "mark"
    inner = f"{WAITING}".replace('print("ending", flush=True)', f"open({str(mark)!r}, 'w').close()")
    code = (
        "import os, sys; sys.path.insert(0, '.'); from pkgctl.remote import politely\n"
        f"politely.run([sys.executable, '-c', {inner!r}], '/', dict(os.environ),"
        " lambda _: os.kill(os.getpid(), 9))"
    )

    pid = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", code])
    os.waitpid(pid, 0)

    deadline = time.monotonic() + 10
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert mark.exists()
