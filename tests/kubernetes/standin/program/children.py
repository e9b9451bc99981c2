# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs that it runs. One that ends is its own end; at its end all do, in turn."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from .saying import say

_libc = ctypes.CDLL(None)


class Children:
    """The programs that run, in the order of their start."""

    def __init__(self, programs: Path) -> None:
        """Have none yet.

        Args:
            programs: the folder of the programs.
        """
        self.programs = programs
        self.over = threading.Event()
        self.failed = False
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        system = os.environ.get("PATH", os.defpath)
        usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        self.path = f"{programs}:{usual}:{system}:{programs / 'aux'}"

    def start(self, program: str, words: Sequence[str], log: Path | None = None) -> None:
        """Start a program, and end when it does.

        Args:
            program: its name.
            words: its arguments.
            log: where what it says goes, if not where ours goes.
        """
        say(f"Running {program} {' '.join(words)}")
        out = None if log is None else log.open("ab")
        running = subprocess.Popen(
            [str(self.programs / program), *words],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, "PATH": self.path},
            preexec_fn=_die_with_parent,
        )
        self._running[program] = running

    def run(self, program: str, *words: str | Path) -> str:
        """Return what a program prints that ends at once; it must succeed."""
        done = subprocess.run(
            [str(self.programs / program), *map(str, words)],
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": self.path},
            check=False,
        )
        if done.returncode != 0:
            last = (done.stderr.strip() or done.stdout.strip())[-400:]
            raise RuntimeError(f"{program} {words[0] if words else ''} failed: {last}")
        return done.stdout

    def run_tool(self, program: str, *words: str, check: bool = True) -> str | None:
        """Return what a program of the system prints; nothing if it fails and may."""
        done = subprocess.run(
            [program, *words],
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": self.path},
            check=False,
        )
        if done.returncode == 0:
            return done.stdout
        if check:
            raise RuntimeError(f"{program} {' '.join(words)}: {done.stderr.strip()[-300:]}")
        return None

    def ended(self) -> str:
        """Return which of them has ended, and how; nothing if none has."""
        for program, running in self._running.items():
            if (code := running.poll()) is not None:
                return f"{program} exited with {code}"
        return ""

    def stop(self) -> None:
        """End all, those that others lean on last.

        What keeps nothing is killed: the API would wait for everybody who watches it.
        """
        for program, running in reversed(list(self._running.items())):
            if running.poll() is None:
                (running.kill if program.startswith("kube-") else running.terminate)()
            try:
                running.wait(10)
            except subprocess.TimeoutExpired:
                say(f"{program} does not end, and is killed", "warning")
                running.kill()
                running.wait()


def looks(shortest: float = 0.1, longest: float = 2.0) -> Iterator[float]:
    """Yield the pauses between looks at what comes up: each look takes some of what that needs."""
    began = time.monotonic()
    while True:
        yield min(max(shortest, (time.monotonic() - began) / 10), longest)


def _die_with_parent() -> None:
    """Keep nothing running that nobody would end; what containers hang on is no child."""
    _libc.prctl(1, signal.SIGKILL)
