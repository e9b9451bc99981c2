# SPDX-License-Identifier: GPL-3.0-or-later
"""Who could have read a secret: in the process list, or in files that others can read."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_PAUSE = 0.25
# Finds files that hold some words, changed since a moment, and says whether others can read them:
# others than the owner, by the file's mode and by those of the folders above it.
_SEARCH = """
import json, mmap, os, stat, sys
words, since, roots, skipped = json.load(sys.stdin)
words = [each.encode() for each in words]
found = []
def holds(path, size):
    if not size:
        return False
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return any(text.find(word) >= 0 for word in words)
def look(folder, is_open):
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        try:
            seen = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(seen.st_mode):
                if entry.path not in skipped:
                    look(entry.path, is_open and bool(seen.st_mode & 0o011))
            elif stat.S_ISREG(seen.st_mode) and seen.st_ctime >= since:
                if holds(entry.path, seen.st_size):
                    found.append([entry.path, is_open and bool(seen.st_mode & 0o044)])
        except OSError:
            pass
for root in roots:
    above = [root, *(p for p in map(str, __import__("pathlib").Path(root).parents))]
    look(root, all(os.path.exists(p) and os.stat(p).st_mode & 0o011 for p in above))
json.dump(found, sys.stdout)
"""


@dataclass(frozen=True, slots=True)
class Holder:
    """A file that holds a secret.

    Attributes:
        path: where it is.
        is_open: whether others than its owner can read it.
    """

    path: str
    is_open: bool


def holders(
    secrets: Sequence[str],
    roots: Iterable[str | Path],
    since: float,
    *,
    within: Sequence[str] = (),
    skipped: Iterable[str | Path] = (),
) -> list[Holder]:
    """Return which files hold one of some secrets.

    Args:
        secrets: the words to look for.
        roots: the folders to look through.
        since: files that have not changed since are not looked at.
        within: the words before a command that have it run elsewhere.
        skipped: folders to leave out.
    """
    given = json.dumps([list(secrets), since, [*map(str, roots)], [*map(str, skipped)]])
    done = subprocess.run(
        [*within, sys.executable, "-c", _SEARCH],
        input=given,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Holder(path, bool(is_open)) for path, is_open in json.loads(done.stdout)]


class Watch(threading.Thread):
    """Keeps what the process list has shown: command lines and environments of all processes."""

    def __init__(self) -> None:
        """Begin with nothing."""
        super().__init__(name="watch", daemon=True)
        self._shown: set[bytes] = set()
        self._over = threading.Event()
        self.since = time.time()

    def run(self) -> None:
        """Look again and again."""
        while not self._over.wait(_PAUSE):
            for folder in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    with suppress(OSError):
                        self._shown.add((folder / name).read_bytes())

    def saw(self, word: str) -> bool:
        """Return whether any process has shown a word."""
        return any(word.encode() in each for each in tuple(self._shown))

    def __enter__(self) -> Watch:
        """Start to look."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Look no more."""
        self._over.set()
        self.join()
