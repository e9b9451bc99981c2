# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's events as short lines: what was made, changed and removed, and what takes long."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

EVERY_SECONDS = 15.0
# What is a step of its own; a replacement is told by its two halves.
SIGNS = {
    "create": "+",
    "create-replacement": "+",
    "update": "~",
    "delete": "-",
    "delete-replaced": "-",
    "import": "+",
    "read": "",
}
# The first parts of types whose resources are no things: groups of others, and connections.
_GROUPS = ("pkgctl:", "pulumi:")
_MOST_KEYS = 4
_COLOURS = re.compile(r"<\{%.*?%\}>|\x1b\[[0-9;]*m")
# What a provider puts around its own words.
_NOISE = re.compile(
    r"^(sdk-v2/|\S+\.go:\d+: ?|sdk\.helper_schema: ?|[eE]rror: ?|\* ?|\d+ errors? occurred:)"
)
_ORIGIN = re.compile(r": provider=\S+$")
# Where Pulumi found a plugin; and what it advises where we look after it.
_OF_NO_USE = re.compile(
    r"using pulumi-\S+ from \$PATH|Attempting to deploy or update resources with"
)
_FOLLOWS = ("update failed", "preview failed", "refresh failed", "resource operation failed")

Say = Callable[[str], None]


class Progress:
    """Gathers what happens to a stack, and says it as it comes; events may come from any thread."""

    def __init__(self, say: Say, warn: Say, every: float = EVERY_SECONDS) -> None:
        """Prepare to listen.

        Args:
            say: is told each line.
            warn: is told each warning.
            every: how often to say what is under way, in seconds.
        """
        self.lines: list[str] = []
        self.warnings: list[str] = []
        self.errors: list[str] = []
        self._say, self._warn, self._every = say, warn, every
        self._began: dict[str, float] = {}
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._started = time.monotonic()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Progress:
        """Begin to say what is under way."""
        self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop that."""
        self._done.set()
        self._ticker.join()

    def event(self, event: Any) -> None:
        """Take one of the engine's events."""
        with self._lock:
            if event.resource_pre_event is not None:
                self._begin(event.resource_pre_event.metadata)
            elif event.res_outputs_event is not None:
                self._end(event.res_outputs_event.metadata, event.res_outputs_event.planning)
            elif event.res_op_failed_event is not None:
                self._began.pop(event.res_op_failed_event.metadata.urn, None)
            elif event.diagnostic_event is not None:
                self._diagnose(event.diagnostic_event)

    def _begin(self, step: Any) -> None:
        if _is_thing(step) and SIGNS.get(_op(step)):
            self._began[step.urn] = time.monotonic()

    def _end(self, step: Any, planning: bool | None) -> None:
        began = self._began.pop(step.urn, None)
        sign = SIGNS.get(_op(step))
        if not sign or not _is_thing(step):
            return
        line = f"{sign} {thing(step.urn)}{_changed(step) if sign == '~' else ''}"
        self.lines.append(line)
        took = 0.0 if began is None or planning else time.monotonic() - began
        self._say(f"{line} ({took:.0f} s)" if took >= 1.0 else line)

    def _diagnose(self, told: Any) -> None:
        text = plain(told.message)
        if not text or told.ephemeral or _OF_NO_USE.match(text):
            return
        if told.severity == "error":
            if not text.startswith(_FOLLOWS):
                self.errors.append(_placed(told.urn, text))
        elif told.severity == "warning":
            self.warnings.append(text)
            self._warn(text)
        elif told.severity == "info":
            self._say(text)

    def _tick(self) -> None:
        while not self._done.wait(self._every):
            now = time.monotonic()
            with self._lock:
                late = [urn for urn, began in self._began.items() if now - began >= self._every / 2]
                if late:
                    listed = listing([thing(urn) for urn in late])
                    self._say(f"… {now - self._started:.0f} s: {listed}")


def listing(names: Iterable[str], most: int = 4) -> str:
    """Return the first few names, and how many more there are."""
    found = list(names)
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return f"{', '.join(found[:most])}{more}"


def _op(step: Any) -> str:
    return str(getattr(step.op, "value", step.op))


def _is_thing(step: Any) -> bool:
    return not step.type.startswith(_GROUPS)


def thing(urn: str) -> str:
    """Return a resource as people call it: its kind and its name."""
    parts = urn.split("::", 3)
    if len(parts) < 4:
        return urn
    kind, name = _spaced(parts[2].rpartition("$")[2].rpartition(":")[2]), parts[3]
    return kind if kind == name else f"{kind} {name}"


def _spaced(kind: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind).lower()


def _changed(step: Any) -> str:
    """Return which of a resource's properties change."""
    detailed: Mapping[str, Any] = step.detailed_diff or {}
    keys = list(dict.fromkeys([*(step.diffs or []), *(_first(key) for key in detailed)]))
    keys = keys or _differing(step.old, step.new)
    return f": {listing(keys, _MOST_KEYS)}" if keys else ""


def _differing(old: Any, new: Any) -> list[str]:
    """Return which inputs differ, of resources whose provider does not say it; ours are marked."""
    before, after = (dict(each.inputs or {}) if each is not None else {} for each in (old, new))
    return sorted(
        key
        for key in before.keys() | after.keys()
        if not key.startswith("__") and before.get(key) != after.get(key)
    )


def _first(path: str) -> str:
    return re.split(r"[.\[]", path, maxsplit=1)[0]


def _placed(urn: str | None, text: str) -> str:
    where = thing(urn) if urn and "pulumi:pulumi:Stack" not in urn else ""
    return f"{where}: {text}" if where else text


def plain(message: str) -> str:
    """Return a diagnostic's message in one line: no colours, and of a traceback only its end."""
    lines = [line.strip() for line in _COLOURS.sub("", message).splitlines() if line.strip()]
    if any(line.startswith("Traceback (most recent call last)") for line in lines):
        return lines[-1]
    return " ".join(filter(None, map(_unwrapped, lines)))


def _unwrapped(line: str) -> str:
    while found := _NOISE.match(line):
        line = line[found.end() :].strip()
    return _ORIGIN.sub("", line)
