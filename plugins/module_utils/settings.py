# SPDX-License-Identifier: GPL-3.0-or-later
"""What the words of a perturbation set: links, capacity, disks, health and stress.

Each reader takes all words that were given, picks its own, and returns the options of the module
of its kind, as texts that the module reads again. Each error is one line that starts with the word.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from decimal import Decimal

from . import limits, quality, tracefiles, units, words
from .texts import quote
from .tracefiles import FileReader

CONDITIONS = ("unmounted", "readonly", "mounted", "detached")
GONE = ("unmounted", "detached")
# What a disk that is in use can be brought to in several ways; one that is pulled spares nobody.
GENTLE = ("unmounted", "readonly")
HOWS = ("clean", "lazy", "force")
HEALTHS = ("paused", "stopped", "crashed")
ISOLATED = "isolated"
MOST_RATE = 10**13
LONGEST_DELAY = 3600.0
_SLOWEST = 1.0
_NEEDS = (
    ("distribution", "jitter", "says how jitter scatters the delay, and there is none"),
    ("burst", "loss", "says how losses group, and there are none"),
    ("reorder", "delay", "lets packets overtake those that are delayed, and none are"),
)
# What a link looks like that only its trace shapes.
_NEUTRAL: Mapping[str, object] = {"loss": "0%"}


def read_link(
    given: Mapping[str, object],
    columns: Collection[str] = (),
    read_file: FileReader = tracefiles.read_text,
) -> dict[str, object]:
    """Return the options for a link by its own keys: rate, delay, jitter, loss and the others.

    Args:
        given: the words.
        columns: the keys of a link that a trace sets.
        read_file: returns the text of a file that a word names.

    Raises:
        ValueError: for a wrong value, or for words that contradict one another.
    """
    if "partition" in given and words.read_flag("partition", given["partition"]):
        if named := [word for word in (*words.LINK_WORDS, "trace") if word in given]:
            raise ValueError(
                f"{named[0]}: means nothing beside partition, which lets no packet through"
            )
        return {"loss": "100%"}
    link: dict[str, object] = {
        key: _text(word, given[word], _LINK_READERS[word])
        for word, key in words.LINK_WORDS.items()
        if word in given and word != "distribution"
    }
    if "distribution" in given:
        link = {**_distribution(given["distribution"], read_file), **link}
    _check_link(link, columns)
    return link or (dict(_NEUTRAL) if columns else {})


def _distribution(value: object, read_file: FileReader) -> dict[str, object]:
    """Return the name of a distribution, or that of the delays in a file with their jitter."""
    if isinstance(value, str) and value in quality.DISTRIBUTIONS:
        return {"distribution": value}
    delays = tracefiles.read_delays(value, read_file)
    return {
        "delay": units.show_duration(round(delays.mean, 9)),
        "jitter": units.show_duration(round(delays.deviation, 9)),
        "distribution": list(delays.quantiles),
    }


def _check_link(link: Mapping[str, object], columns: Collection[str]) -> None:
    """Refuse settings that do nothing without another, and those that a trace sets too."""
    for word, key in words.LINK_WORDS.items():
        if key in link and key in columns:
            raise ValueError(f"{word}: contradicts trace, which has its own {key}")
    together = {*link, *columns}
    for word, needed, why in _NEEDS:
        if word in together and needed not in together:
            raise ValueError(f"{word}: {why}; give {needed} too")


def read_quota(given: Mapping[str, object]) -> dict[str, str]:
    """Return the options for a node's capacity by its own keys: cpu, memory, io and others.

    Raises:
        ValueError: for a wrong value, or for words that contradict one another.
    """
    if "slow" in given and "iops" in given:
        raise ValueError("slow: contradicts iops, for both bound the requests a second")
    quota: dict[str, str] = {}
    for word, keys in words.QUOTA_WORDS.items():
        if word in given:
            text = _text(word, given[word], _QUOTA_READERS[word])
            if word == "slow":
                text = str(_requests_of(given[word]))
            quota |= dict.fromkeys(keys, text)
    return quota


def _requests_of(value: object) -> int:
    """Return the requests a second of a disk each of whose requests takes this long."""
    seconds = units.duration(value)
    if not 1e-6 <= seconds <= _SLOWEST:
        raise ValueError(f"{quote(value)} is no time of one request; write from 1us to 1s")
    return round(1 / seconds)


def read_disk(given: Mapping[str, object]) -> dict[str, str]:
    """Return the options for a disk: disk (its name), condition, how, fill and size.

    Raises:
        ValueError: for a wrong value, or for words that contradict one another.
    """
    found: dict[str, str] = {}
    for word, reader in _DISK_READERS.items():
        if word in given:
            name, options = reader(given[word])
            if name and found.setdefault("disk", name) != name:
                raise ValueError(f"{word}: is about disk {name}, not {found['disk']}; name one")
            found |= options
    if "how" in given:
        found["how"] = _read_how(given["how"], found.get("condition"))
    gone = found.get("condition") in GONE
    for word, key in (("fill", "fill"), ("disk_size", "size")):
        if gone and key in found:
            raise ValueError(f"{word}: means nothing on a disk that is {found['condition']}")
    return found


def _read_condition(value: object) -> tuple[str, dict[str, str]]:
    name, condition = _split_disk(value)
    if condition not in CONDITIONS:
        known = ", ".join(CONDITIONS)
        raise ValueError(f"disk: {quote(value)} is no condition; write {known}, or data:unmounted")
    return name, {"condition": str(condition)}


def _read_fill(value: object) -> tuple[str, dict[str, str]]:
    name, level = _split_disk(value)
    return name, {"fill": _text("fill", level, limits.share)}


def _read_disk_size(value: object) -> tuple[str, dict[str, str]]:
    name, size = _split_disk(value)
    return name, {"size": _text("disk_size", size, limits.memory)}


def _split_disk(value: object) -> tuple[str, object]:
    """Return the disk's name, if one is given, and the rest of ``data:unmounted``."""
    if isinstance(value, Mapping) and len(value) == 1:
        name, rest = next(iter(value.items()))
        return (name, rest) if isinstance(name, str) and len(name) < 64 else ("", value)
    if isinstance(value, str) and len(value) < 128:
        name, _, text = value.rpartition(":")
        return name, text
    return "", value


def _read_how(value: object, condition: str | None) -> str:
    if value not in HOWS:
        raise ValueError(f"how: {quote(value)} is none of {', '.join(HOWS)}")
    if condition not in GENTLE:
        raise ValueError("how: says how a disk goes; give disk=unmounted or disk=readonly too")
    return str(value)


def read_health(given: Mapping[str, object]) -> str | None:
    """Return paused, stopped, crashed or isolated; None if health is not given.

    Raises:
        ValueError: for another value.
    """
    health = given.get("health")
    if health is not None and health not in (*HEALTHS, ISOLATED):
        raise ValueError(f"health: {quote(health)} is none of {', '.join((*HEALTHS, ISOLATED))}")
    return None if health is None else str(health)


def read_stress(given: Mapping[str, object]) -> dict[str, str]:
    """Return the options for stress by its own keys: cpu, memory, io.

    Raises:
        ValueError: for a wrong value.
    """
    return {
        key: _text(word, given[word], limits.STRESS_READERS[key])
        for word, key in words.STRESS_WORDS.items()
        if word in given
    }


def _text(word: str, value: object, reader: Callable[[object], object]) -> str:
    """Return the text of a value that the reader accepts."""
    words.read_with(word, value, reader)
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f")
    return str(value)


def _rate(value: object) -> int:
    rate = units.rate(value)
    if rate > MOST_RATE:
        raise ValueError(f"{quote(value)} is more than {units.show_rate(MOST_RATE)}")
    return rate


def _delay(value: object) -> float:
    delay = units.duration(value)
    if delay > LONGEST_DELAY:
        raise ValueError(f"{quote(value)} is longer than {units.show_duration(LONGEST_DELAY)}")
    return delay


_LINK_READERS: Mapping[str, Callable[[object], object]] = {
    **{word: quality.READERS[key] for word, key in words.LINK_WORDS.items()},
    "bw": _rate,
    "delay": _delay,
    "jitter": _delay,
}
_QUOTA_READERS: Mapping[str, Callable[[object], object]] = {
    **{word: limits.READERS[keys[0]] for word, keys in words.QUOTA_WORDS.items()},
    "slow": _requests_of,
}
_DISK_READERS: Mapping[str, Callable[[object], tuple[str, dict[str, str]]]] = {
    "disk": _read_condition,
    "fill": _read_fill,
    "disk_size": _read_disk_size,
}
