# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of a perturbation: which there are, and how names and simple values are read.

The same words serve ``ansible-playbook -e``, ``pkgctl perturb`` and the experiment files. Each
error is one line that starts with the word at fault.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeVar

from .texts import hint, plain, quote, short

_Value = TypeVar("_Value")

DEFAULT_NAME = "perturb"
BASE = "base"
DIRECTIONS = ("to", "from", "both")

# Each word of a setting, and the key or keys of the module's options that it sets.
LINK_WORDS: Mapping[str, str] = {
    "bw": "rate",
    "delay": "delay",
    "jitter": "jitter",
    "distribution": "distribution",
    "loss": "loss",
    "burst": "burst",
    "duplicate": "duplicate",
    "reorder": "reorder",
    "corrupt": "corrupt",
}
QUOTA_WORDS: Mapping[str, tuple[str, ...]] = {
    "cpu": ("cpu",),
    "mem": ("memory",),
    "io": ("io",),
    "read": ("read_bps",),
    "write": ("write_bps",),
    "iops": ("read_iops", "write_iops"),
    "slow": ("read_iops", "write_iops"),
    "pids": ("pids",),
}
DISK_WORDS = ("disk", "how", "fill", "disk_size")
HEALTH_WORDS = ("health",)
STRESS_WORDS: Mapping[str, str] = {
    "stress_cpu": "cpu",
    "stress_mem": "memory",
    "stress_io": "io",
}
SELECTOR_WORDS = ("src", "dst", "site", "node", "select")
PLACE_WORDS = ("node", "select", "site")
NODE_WORDS = (*QUOTA_WORDS, *DISK_WORDS, *HEALTH_WORDS, *STRESS_WORDS)
SETTING_WORDS = (*LINK_WORDS, "partition", "trace", *NODE_WORDS)
TIME_WORDS = ("start", "duration", "ramp", "repeat", "flap", "trace", "when", "after")
WORDS = (
    "name",
    *SELECTOR_WORDS,
    "seed",
    "direction",
    *(word for word in SETTING_WORDS if word != "trace"),
    *TIME_WORDS,
    "lease",
    "timeline",
    "force",
)
HEAL_WORDS = ("name", "node", "site", "select")
# Words whose value may be the name of a file on the controller.
FILE_WORDS = ("distribution", "trace")

_SLIPS: Mapping[str, str] = {
    "bandwidth": "bw",
    "rate": "bw",
    "throughput": "bw",
    "latency": "delay",
    "memory": "mem",
    "ram": "mem",
    "packet_loss": "loss",
    "duplication": "duplicate",
    "corruption": "corrupt",
    "reordering": "reorder",
    "source": "src",
    "from": "src",
    "destination": "dst",
    "to": "dst",
    "target": "node",
    "nodes": "node",
    "host": "node",
    "layer": "name",
    "cores": "cpu",
    "processes": "pids",
    "isolate": "health",
    "crash": "health",
    "pause": "health",
    "stop": "health",
    "stress": "stress_cpu",
    "size": "disk_size",
    "until": "duration",
    "every": "repeat",
    "ttl": "lease",
}
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
_FLAGS: Mapping[str, bool] = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
MOST_SEED = 2**63 - 1


def check_words(words: Iterable[object], known: Collection[str]) -> None:
    """Refuse words that are not known, naming the nearest right one.

    Raises:
        ValueError: for the first word that is not known.
    """
    for word in words:
        if word not in known:
            raise ValueError(f"{plain(word)}: unknown word; {hint(word, known, _SLIPS)}")


def read_name(word: str, value: object) -> str:
    """Return the name of a layer or a timeline.

    Raises:
        ValueError: if it cannot be one.
    """
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(
            f"{word}: {quote(value)} is no name; write lower-case letters, digits, '-', '_' and '.'"
        )
    if word == "name" and value == BASE:
        raise ValueError(f"{word}: {BASE!r} is the testbed's own layer; choose another name")
    return value


def read_names(word: str, value: object) -> tuple[str, ...]:
    """Return the names in ``slow``, ``slow,cut`` or a list of names.

    Raises:
        ValueError: if one cannot be a name.
    """
    items = value if isinstance(value, (list, tuple)) else [value]
    names = [
        part.strip() if isinstance(part, str) else part
        for item in items
        for part in (item.split(",") if isinstance(item, str) else [item])
    ]
    return tuple(dict.fromkeys(read_name(word, name) for name in names))


def read_direction(given: Mapping[str, object]) -> str:
    """Return the direction: to, from or both.

    Raises:
        ValueError: for another one.
    """
    direction = given.get("direction", "both")
    if direction not in DIRECTIONS:
        raise ValueError(f"direction: {quote(direction)} is none of {', '.join(DIRECTIONS)}")
    return str(direction)


def read_flag(word: str, value: object) -> bool:
    """Return whether a value means yes.

    Raises:
        ValueError: if it is neither yes nor no.
    """
    text = str(value).lower() if isinstance(value, (str, bool)) or value in (0, 1) else ""
    if text not in _FLAGS:
        raise ValueError(f"{word}: {quote(value)} is neither true nor false")
    return _FLAGS[text]


def read_seed(value: object) -> int:
    """Return the seed of what is drawn at random.

    Raises:
        ValueError: if it is no whole number from 0 to MOST_SEED.
    """
    number = value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        number = int(value)
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= MOST_SEED:
        raise ValueError(f"seed: {quote(value)} is no whole number from 0 to {MOST_SEED}")
    return number


def seed_of(*labels: object) -> int:
    """Return a seed of 32 bits that is the same for the same labels on every machine."""
    text = "/".join(map(str, labels))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])


def read_with(word: str, value: object, reader: Callable[[object], _Value]) -> _Value:
    """Return what a reader makes of a value, with the word in front of its complaint.

    Raises:
        ValueError: if the reader refuses.
    """
    try:
        return reader(value)
    except ArithmeticError as error:
        raise ValueError(f"{word}: {quote(value)} is beyond all measure") from error
    except ValueError as error:
        raise ValueError(f"{word}: {short(error)}") from error
