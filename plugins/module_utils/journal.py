# SPDX-License-Identifier: GPL-3.0-or-later
"""A journal of what is to be done, one JSON object a line, on its disk before anything is done.

A process that was killed finds in it what it had taken on. Each record is stamped with both clocks
and the boot that CLOCK_MONOTONIC counts from, so that its times mean the same after a reboot.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import syscalls
from .errors import AgentError

NAME = "journal.jsonl"
Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time: the boot, CLOCK_MONOTONIC and the wall clock, in seconds."""

    boot: str
    mono: float
    wall: float

    def shift_from(self, boot: str, mono: float, wall: float) -> float:
        """Return what to add to a monotonic time of another moment to have one of this boot."""
        if boot == self.boot:
            return 0.0
        return (wall - mono) - (self.wall - self.mono)


def now() -> Moment:
    """Return this moment."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return Moment(boot, syscalls.monotonic(), time.time())


class Journal:
    """The journal in a testbed's folder."""

    def __init__(self, path: Path) -> None:
        """Use the journal at path, which need not be there yet."""
        self._path = path
        self._boot = now().boot
        self._file: int | None = None

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return self._path.stat().st_size if self._path.exists() else 0

    def append(self, records: Iterable[Record]) -> None:
        """Write records, and wait until they are on the disk.

        Raises:
            AgentError: if that fails; then none of them is there, and nothing may be done.
        """
        lines = self._lines(records)
        if not lines:
            return
        size = self.size
        try:
            if self._file is None:
                self._file = self._open()
            _write_all(self._file, lines)
            os.fsync(self._file)
        except OSError as error:
            with suppress(OSError):
                os.truncate(self._path, size)
            self.close()
            raise AgentError(f"the journal cannot be written: {error.strerror}") from error

    def _open(self) -> int:
        torn = self._is_torn()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        opened = os.open(self._path, flags, 0o600)
        if torn:
            # What was being written when its writer died is no record; the next one must be.
            _write_all(opened, b"\n")
        return opened

    def _is_torn(self) -> bool:
        if not self.size:
            return False
        with self._path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"

    def _lines(self, records: Iterable[Record]) -> bytes:
        stamp = {"boot": self._boot, "mono": syscalls.monotonic(), "wall": time.time()}
        return b"".join(
            json.dumps({**stamp, **record}, separators=(",", ":")).encode() + b"\n"
            for record in records
        )

    def replay(self) -> Iterator[Record]:
        """Yield the records in their order, each with ``shift`` to add to its monotonic times.

        A line that is no record is passed over: the last one may be torn.
        """
        if not self._path.exists():
            return
        here = now()
        with self._path.open("rb") as file:
            for line in file:
                try:
                    record = json.loads(line)
                    shift = here.shift_from(record["boot"], record["mono"], record["wall"])
                except (ValueError, KeyError, TypeError):
                    continue
                yield {**record, "shift": shift}

    def compact(self, records: Iterable[Record]) -> None:
        """Write records in the place of all there are, all at once.

        Raises:
            OSError: if that fails; the old ones or the new ones are there, and nothing between.
        """
        fresh = self._path.with_suffix(".new")
        try:
            self._write_anew(fresh, records)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise

    def _write_anew(self, fresh: Path, records: Iterable[Record]) -> None:
        opened = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_all(opened, self._lines(records))
            os.fsync(opened)
        finally:
            os.close(opened)
        fresh.replace(self._path)
        self.close()
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Close the file; the next record opens it again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _write_all(opened: int, data: bytes) -> None:
    while data:
        data = data[os.write(opened, data) :]
