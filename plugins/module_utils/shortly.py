# SPDX-License-Identifier: GPL-3.0-or-later
"""Short texts for what a layer asks, for whoever lists layers.

The bodies are those that the stores hold: see kinds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from . import units
from .quality import Quality

Body = Mapping[str, Any]
_FEW = 2


def _bytes(count: float) -> str:
    return f"{units.show_size(int(count))}/s"


def _count(count: float) -> str:
    return f"{count:g}"


_BOTH = {"io": ("read_bps", "write_bps"), "iops": ("read_iops", "write_iops")}
_QUOTAS: Mapping[str, Callable[[Any], str]] = {
    "cpu": units.show_cpu,
    "memory": units.show_size,
    "pids": _count,
    **dict.fromkeys(("io", "read_bps", "write_bps"), _bytes),
    **dict.fromkeys(("iops", "read_iops", "write_iops"), _count),
}


def settings(kind: str, bodies: Iterable[Body]) -> str:
    """Return what a layer's bodies of one kind ask, such as ``5mbit 40ms`` or ``cpu 200m``."""
    show = _SHOW.get(kind, _plain)
    asked = list(dict.fromkeys(text for body in bodies for text in show(body) if text))
    return " | ".join([*asked[:_FEW], *(["..."] if len(asked) > _FEW else [])])


def _link(body: Body) -> list[str]:
    distinct: list[Body] = []
    for numbers in (body.get("egress") or body.get("ingress") or {}).values():
        # Few nodes have many kinds of links in one layer; nobody reads more than a few.
        if numbers not in distinct:
            distinct.append(numbers)
            if len(distinct) > _FEW:
                break
    return [Quality.from_dict(numbers).show() for numbers in distinct]


def _quota(body: Body) -> list[str]:
    limits = dict(body)
    for both, (read, write) in _BOTH.items():
        if read in limits and limits.get(read) == limits.get(write):
            limits[both] = limits.pop(read)
            del limits[write]
    words = [f"{key} {_QUOTAS[key](limit)}" for key, limit in limits.items() if key in _QUOTAS]
    return [" ".join(word.replace("_bps", "").replace("_", " ") for word in words)]


def _disk(body: Body) -> list[str]:
    return [_disk_words(name, asked) for name, asked in body.items()]


def _disk_words(name: str, asked: Body | str) -> str:
    if isinstance(asked, str):
        return f"{name} {asked}"
    condition, how = asked.get("condition"), asked.get("how", "clean")
    words = [
        str(condition) if condition and condition != "mounted" else "",
        f"({how})" if condition and how != "clean" else "",
        f"filled to {units.show_ratio(asked['fill'])}" if "fill" in asked else "",
        f"of {units.show_size(asked['size'])}" if "size" in asked else "",
    ]
    return " ".join([name, *(word for word in words if word)])


def _health(body: Body) -> list[str]:
    return [str(body.get("health", ""))]


def _stress(body: Body) -> list[str]:
    words = [
        f"cpu {body['cpu']:g}" if body.get("cpu") else "",
        f"memory {units.show_size(body['memory'])}" if body.get("memory") else "",
        f"io {body['io']:g}" if body.get("io") else "",
    ]
    return ["stress " + " ".join(word for word in words if word)]


def _plain(body: Body) -> list[str]:
    return [json.dumps(body)]


_SHOW: Mapping[str, Callable[[Body], list[str]]] = {
    "link": _link,
    "quota": _quota,
    "disk": _disk,
    "health": _health,
    "stress": _stress,
}
