# SPDX-License-Identifier: GPL-3.0-or-later
"""The way from Pulumi's provider, which has threads, to the one process that changes testbeds."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from concurrent.futures import Future
from typing import Any

from pkgctl.errors import TestbedError

Answer = dict[str, Any]


class Editor:
    """Sends requests to ``pkgctl.local.editor``; any number of threads may wait for answers."""

    def __init__(self) -> None:
        """Start the process."""
        # In a session of its own: what interrupts Pulumi must not cut a change short.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pkgctl.local.editor"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[Answer]] = {}
        self._numbers = itertools.count(1)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def is_running(self) -> bool:
        """Whether it takes requests."""
        return self._process.poll() is None

    def ask(self, op: str, **fields: Any) -> Answer:
        """Return what came of a request.

        Raises:
            TestbedError: in one line, in the words of the process, or because it ended.
        """
        waiting: Future[Answer] = Future()
        with self._lock:
            number = next(self._numbers)
            self._waiting[number] = waiting
            line = json.dumps({"number": number, "op": op, **fields})
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(f"{line}\n".encode())
                self._process.stdin.flush()
            except OSError:
                self._give_up()
        answer = waiting.result()
        if "error" in answer:
            raise TestbedError(answer["error"])
        result: Answer = answer["result"]
        return result

    def close(self) -> None:
        """Let it end what it does, and then itself."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as answers:
            for line in answers:
                answer = json.loads(line)
                with self._lock:
                    waiting = self._waiting.pop(answer["number"])
                waiting.set_result(answer)
        self._process.wait()
        with self._lock:
            self._give_up()

    def _give_up(self) -> None:
        code = self._process.poll()
        told = {"error": f"the process that changes testbeds ended (status {code}): run it again"}
        for waiting in self._waiting.values():
            waiting.set_result(told)
        self._waiting.clear()


_started = threading.Lock()
_editors: list[Editor] = []


def editor() -> Editor:
    """Return the one process of this program, started at the first use or after its end."""
    with _started:
        if not _editors or not _editors[-1].is_running:
            _editors.append(Editor())
        return _editors[-1]
