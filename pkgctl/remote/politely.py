# SPDX-License-Identifier: GPL-3.0-or-later
"""Running a command that must not be ended in the middle: it is asked to end, and waited for."""

from __future__ import annotations

import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO

Heard = Callable[[str], None] | None


def run(
    words: Sequence[str], cwd: str, environment: Mapping[str, str], heard: Heard = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in a session of its own, and return what it did.

    Args:
        words: the command.
        cwd: where it runs.
        environment: all of its environment.
        heard: is told each line of its standard output.

    Raises:
        KeyboardInterrupt: if this process was to end meanwhile, after the command has ended.
    """
    told: list[str] = []
    complained: list[str] = []
    with (
        subprocess.Popen(
            [*_leash(), *words],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process,
        _passed_on(process) as interrupted,
    ):
        readers = [
            threading.Thread(target=_read, args=(process.stdout, told, heard)),
            threading.Thread(target=_read, args=(process.stderr, complained, None)),
        ]
        for each in readers:
            each.start()
        for each in readers:
            each.join()
        code = process.wait()
    if interrupted.is_set():
        raise KeyboardInterrupt
    return subprocess.CompletedProcess(words, code, "\n".join(told), "\n".join(complained))


def _leash() -> list[str]:
    """Return what has a command end in order should this process be killed."""
    return ["setpriv", "--pdeathsig", "INT"] if shutil.which("setpriv") else []


def _read(stream: IO[str], lines: list[str], heard: Heard) -> None:
    for line in stream:
        lines.append(line.rstrip())
        if heard is not None:
            heard(lines[-1])


@contextmanager
def _passed_on(process: subprocess.Popen[str]) -> Iterator[threading.Event]:
    """Pass on what would end us, so that a process ends in order; asked twice it ends at once."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def pass_on(number: int, frame: object) -> None:
        interrupted.set()
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
