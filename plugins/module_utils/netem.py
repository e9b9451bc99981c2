# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's own impairment of links, netem, as messages and their reader; pure.

Where a kernel has netem it stands under the class of each peer, at the sender, and does what the
delay line does elsewhere. Formats: linux/pkt_sched.h, struct tc_netem_qopt and what follows.

Shares are 32-bit fractions, times nanoseconds. The scatter of the delay is a table of quantiles in
units of the deviation, 8192 to one. The kernel does not tell the table, so the last microsecond of
the jitter says which one it is; and it keeps an old table until it gets another. Bursts of loss are
netem's gemodel with everything lost in the bad state; see distributions.py.
"""

from __future__ import annotations

import functools
import math
import struct
import zlib
from dataclasses import dataclass, field, replace

from .distributions import gilbert, quantile
from .netlink import (
    NLM_F_CREATE,
    NLM_F_REPLACE,
    Message,
    attribute,
    attributes,
    nested,
    text,
)
from .quality import Distribution, Quality
from .rtnl import RTM_DELQDISC, RTM_NEWQDISC, TCA_KIND, TCA_OPTIONS, show_handle, traffic
from .treatment import impairment

KIND = "netem"
_DIST, _REORDER, _CORRUPT, _LOSS, _LATENCY64, _JITTER64 = 2, 3, 4, 5, 10, 11
_GILBERT_ELLIOTT = 2
_QOPT = struct.Struct("=IIIIII")
_ALL = 0xFFFFFFFF
_TICK = 64
_UNIT = 8192
_QUANTILES = 1024
_FRAME = 1514
# What an unbounded link is taken to carry, in bytes a second, when its queue is measured out.
_FASTEST = 1_250_000_000
_MARKS = 1024
# The kernel's own arithmetic on the jitter has 31 bits.
_LONGEST_JITTER = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Netem:
    """The settings of a netem, in the kernel's own units.

    Attributes:
        limit: packets that it holds, the delayed ones included.
        delay: nanoseconds.
        jitter: nanoseconds, with the mark of the table in the last 1,024.
        loss: the share lost, each packet by itself.
        spells: by what share good spells end, and bad ones; none loses packets by themselves.
        duplicate: the share doubled.
        reorder: the share that is not delayed.
        corrupt: the share damaged.
        table: quantiles of the scatter; the kernel does not tell them.
    """

    limit: int
    delay: int = 0
    jitter: int = 0
    loss: int = 0
    spells: tuple[int, int] = (0, 0)
    duplicate: int = 0
    reorder: int = 0
    corrupt: int = 0
    table: tuple[int, ...] = field(default=(), compare=False)

    @property
    def is_selective(self) -> bool:
        """Whether some packets fare otherwise than others, so that each must come by itself."""
        shares = (self.loss, *self.spells, self.duplicate, self.reorder, self.corrupt)
        return any(shares)

    def show(self) -> str:
        """Return the settings as text."""
        parts = {
            "delay": f"{self.delay / 1e6:g}ms",
            "jitter": f"{self.jitter / 1e6:.4g}ms",
            **{name: f"{getattr(self, name) / _ALL:.4%}" for name in _SHOWN},
        }
        known = [f"{name} {shown}" for name, shown in parts.items() if getattr(self, name)]
        known += ["loss in bursts"] * any(self.spells)
        return f"netem {' '.join(known)} limit {self.limit}"


_SHOWN = ("loss", "duplicate", "reorder", "corrupt")


def netem(quality: Quality, rate: int | None, queue: int) -> Netem | None:
    """Return the netem that gives a quality to what leaves for a peer; None if it needs none.

    Duplicates are not its work; see doubling.py.

    Args:
        quality: what packets meet; a dead link is cut elsewhere.
        rate: bytes a second of the peer's class; None is unbounded.
        queue: bytes that wait for the class at most.
    """
    quality = replace(quality, duplicate=0.0)
    if impairment(quality) is None:
        return None
    longest = quality.delay + 4 * quality.jitter
    held = (rate or _FASTEST) * longest + queue
    quantiles = table(quality.distribution) if quality.jitter else ()
    spells = gilbert(quality.loss, quality.burst) if quality.burst and quality.loss else (0.0, 0.0)
    return Netem(
        limit=math.ceil(held / _FRAME) + 1,
        delay=round(quality.delay * 1e9),
        jitter=_marked(quality.jitter, quantiles) if quantiles else 0,
        loss=0 if any(spells) else _fraction(quality.loss),
        spells=(_fraction(spells[0]), _fraction(spells[1])),
        duplicate=_fraction(quality.duplicate),
        reorder=_fraction(quality.reorder),
        corrupt=_fraction(quality.corrupt),
        table=quantiles,
    )


def _marked(jitter: float, quantiles: tuple[int, ...]) -> int:
    """Return a jitter in nanoseconds whose last 1,024 are the mark of a table."""
    whole = min(round(jitter * 1e9 / _MARKS), _LONGEST_JITTER // _MARKS - 1)
    return max(whole, 1) * _MARKS + _mark(quantiles)


@functools.lru_cache(maxsize=64)
def _mark(quantiles: tuple[int, ...]) -> int:
    return zlib.crc32(_packed(quantiles)) % _MARKS


def _packed(quantiles: tuple[int, ...]) -> bytes:
    return struct.pack(f"={len(quantiles)}h", *quantiles)


def _fraction(share: float) -> int:
    return round(share * _ALL)


@functools.lru_cache(maxsize=64)
def table(distribution: Distribution) -> tuple[int, ...]:
    """Return the quantiles of a distribution with mean 0, 8192 to one deviation, 16 bits each.

    The kernel draws one of them evenly. They end at 4 deviations, where 16 bits do.
    """
    middles = ((number + 0.5) / _QUANTILES for number in range(_QUANTILES))
    return tuple(
        max(-32768, min(32767, round(quantile(distribution, part) * _UNIT))) for part in middles
    )


def put(index: int, parent: int, handle: int, settings: Netem) -> Message:
    """Return the message that makes a netem, or changes it in place."""
    ticks = (min(each // _TICK, _ALL) for each in (settings.delay, settings.jitter))
    latency, jitter = ticks
    gap = 1 if settings.reorder else 0
    head = _QOPT.pack(latency, settings.limit, settings.loss, gap, settings.duplicate, jitter)
    options = head + b"".join(_extras(settings))
    flags = NLM_F_CREATE | NLM_F_REPLACE
    what = f"set netem of class {show_handle(parent)}"
    parts = (text(TCA_KIND, KIND), attribute(TCA_OPTIONS, options))
    return traffic(RTM_NEWQDISC, flags, what, index, handle, parent, *parts)


def _extras(settings: Netem) -> list[bytes]:
    extras = [
        attribute(_LATENCY64, struct.pack("=q", settings.delay)),
        attribute(_JITTER64, struct.pack("=q", settings.jitter)),
        attribute(_REORDER, struct.pack("=II", settings.reorder, 0)),
        attribute(_CORRUPT, struct.pack("=II", settings.corrupt, 0)),
    ]
    if settings.table:
        extras.append(attribute(_DIST, _packed(settings.table)))
    if any(settings.spells):
        model = struct.pack("=IIII", *settings.spells, 0, 0)
        extras.append(nested(_LOSS, attribute(_GILBERT_ELLIOTT, model)))
    return extras


def remove(index: int, parent: int, handle: int) -> Message:
    """Return the message that deletes a netem."""
    what = f"delete netem of class {show_handle(parent)}"
    return traffic(RTM_DELQDISC, 0, what, index, handle, parent)


def read(options: bytes) -> Netem:
    """Return the settings that the kernel lists; the table is not among them."""
    latency, limit, loss, _, duplicate, jitter = _QOPT.unpack_from(options)
    found = attributes(options, _QOPT.size)
    spells = (0, 0)
    if _LOSS in found:
        model = attributes(found[_LOSS]).get(_GILBERT_ELLIOTT, bytes(16))
        spells = struct.unpack_from("=II", model)
    return Netem(
        limit=limit,
        delay=_number("=q", found.get(_LATENCY64), latency * _TICK),
        jitter=_number("=q", found.get(_JITTER64), jitter * _TICK),
        loss=loss,
        spells=spells,
        duplicate=duplicate,
        reorder=_number("=I", found.get(_REORDER), 0),
        corrupt=_number("=I", found.get(_CORRUPT), 0),
    )


def _number(form: str, data: bytes | None, default: int) -> int:
    return default if data is None else int(struct.unpack_from(form, data)[0])
