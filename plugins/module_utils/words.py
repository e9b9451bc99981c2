# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of a perturbation: which there are, and how the value of each is read.

The same words serve ``ansible-playbook -e``, ``pkgctl perturb`` and the experiment files. Each
error is one line that starts with the word at fault.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeVar

from . import limits, units

_Value = TypeVar("_Value")

DEFAULT_NAME = "perturb"
BASE = "base"
DIRECTIONS = ("to", "from", "both")
CONDITIONS = ("unmounted", "readonly", "mounted")

LINK_WORDS: Mapping[str, str] = {"bw": "rate", "delay": "delay", "jitter": "jitter", "loss": "loss"}
QUOTA_WORDS: Mapping[str, str] = {"cpu": "cpu", "mem": "memory", "io": "io", "pids": "pids"}
SELECTOR_WORDS = ("src", "dst", "site", "node")
PLACE_WORDS = ("node", "site")
TIME_WORDS = ("start", "duration", "timeline")
SETTING_WORDS = (*LINK_WORDS, "partition", *QUOTA_WORDS, "disk")
WORDS = ("name", *SELECTOR_WORDS, "direction", *SETTING_WORDS, *TIME_WORDS)
HEAL_WORDS = ("name", *PLACE_WORDS)

_OTHER_NAMES: Mapping[str, str] = {
    "bandwidth": "bw",
    "rate": "bw",
    "throughput": "bw",
    "latency": "delay",
    "memory": "mem",
    "ram": "mem",
    "packet_loss": "loss",
    "source": "src",
    "from": "src",
    "destination": "dst",
    "to": "dst",
    "target": "node",
    "host": "node",
    "layer": "name",
    "cores": "cpu",
    "processes": "pids",
    "after": "start",
    "isolate": "partition",
}
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
_FLAGS: Mapping[str, bool] = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
_LINK_READERS: Mapping[str, Callable[[object], object]] = {
    "bw": units.rate,
    "delay": units.duration,
    "jitter": units.duration,
    "loss": units.ratio,
}


def check_words(words: Iterable[str], known: Collection[str]) -> None:
    """Refuse words that are not known, naming the nearest right one.

    Raises:
        ValueError: for the first word that is not known.
    """
    for word in words:
        if word not in known:
            raise ValueError(f"{word}: unknown word; {_hint(word, known)}")


def read_name(word: str, value: object) -> str:
    """Return the name of a layer or a timeline.

    Raises:
        ValueError: if it cannot be one.
    """
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(
            f"{word}: {value!r} is no name; write lower-case letters, digits, '-', '_' and '.'"
        )
    if word == "name" and value == BASE:
        raise ValueError(f"{word}: {BASE!r} is the testbed's own layer; choose another name")
    return value


def read_link(given: Mapping[str, object]) -> dict[str, str]:
    """Return the texts for a link by its own keys: rate, delay, jitter, loss.

    Raises:
        ValueError: for a wrong value, or if partition stands beside another setting.
    """
    readers = _LINK_READERS
    link = {key: _text(w, given[w], readers[w]) for w, key in LINK_WORDS.items() if w in given}
    if "partition" not in given or not _flag("partition", given["partition"]):
        return link
    if link:
        beside = next(word for word in LINK_WORDS if word in given)
        raise ValueError(f"{beside}: means nothing beside partition, which lets no packet through")
    return {"loss": "100%"}


def read_quota(given: Mapping[str, object]) -> dict[str, str]:
    """Return the texts for a node's capacity by its own keys: cpu, memory, io, pids.

    Raises:
        ValueError: for a wrong value.
    """
    readers = limits.READERS
    return {key: _text(w, given[w], readers[key]) for w, key in QUOTA_WORDS.items() if w in given}


def read_direction(given: Mapping[str, object]) -> str:
    """Return the direction: to, from or both.

    Raises:
        ValueError: for another one.
    """
    direction = given.get("direction", "both")
    if direction not in DIRECTIONS:
        raise ValueError(f"direction: {direction!r} is none of {', '.join(DIRECTIONS)}")
    return str(direction)


def read_disk(value: object) -> dict[str, str]:
    """Return the parts of ``unmounted``, ``data:unmounted`` or ``{"data": "unmounted"}``.

    Returns:
        "condition", and "disk" if a name was given.

    Raises:
        ValueError: for another value.
    """
    name, condition = "", value
    if isinstance(value, Mapping) and len(value) == 1:
        name, condition = next(iter(value.items()))
    elif isinstance(value, str):
        name, _, condition = value.rpartition(":")
    if condition not in CONDITIONS:
        known = ", ".join(CONDITIONS)
        raise ValueError(f"disk: {value!r} is no condition; write {known}, or data:unmounted")
    return {"condition": str(condition), **({"disk": str(name)} if name else {})}


def read_duration(word: str, value: object) -> float:
    """Return seconds.

    Raises:
        ValueError: for a wrong value, and for a duration of zero.
    """
    seconds = _read(word, value, units.duration)
    if word == "duration" and seconds == 0:
        raise ValueError("duration: must be above zero; leave it out to last until healed")
    return seconds


def _flag(word: str, value: object) -> bool:
    text = str(value).lower()
    if text not in _FLAGS:
        raise ValueError(f"{word}: {value!r} is neither true nor false")
    return _FLAGS[text]


def _text(word: str, value: object, reader: Callable[[object], object]) -> str:
    """Return the text of a value that the reader accepts."""
    _read(word, value, reader)
    return str(value)


def _read(word: str, value: object, reader: Callable[[object], _Value]) -> _Value:
    try:
        return reader(value)
    except ValueError as error:
        raise ValueError(f"{word}: {error}") from error


def _hint(word: str, known: Collection[str]) -> str:
    name = _OTHER_NAMES.get(word.lower())
    if name is None or name not in known:
        spellings = {**{right: right for right in known}, **_OTHER_NAMES}
        close = difflib.get_close_matches(word.lower(), list(spellings), n=1)
        name = spellings[close[0]] if close else None
    return f"did you mean {name}?" if name in known else f"known are {', '.join(known)}"
