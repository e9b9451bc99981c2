# SPDX-License-Identifier: GPL-3.0-or-later
"""What each module can be told, in the words of Ansible's argument specification.

The modules use it on the nodes, and the actions of the same names on the controller.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import settings, words

# The options of each kind's module that say what is set.
KINDS: Mapping[str, tuple[str, ...]] = {
    "link": ("egress", "ingress"),
    "quota": (
        *("cpu", "memory", "io", "read_bps", "write_bps"),
        *("read_iops", "write_iops", "pids"),
    ),
    "disk": ("disk", "condition", "how", "fill", "size"),
    "health": ("health",),
    "stress": ("cpu", "memory", "io"),
}
# Those that say when; they need a timeline.
ARMING = words.TIME_WORDS

_TEXT = {"type": "str"}
_COUNT = {"type": "int"}
_WAYS = {"egress": {"type": "dict"}, "ingress": {"type": "dict"}}
_DISK = {
    "disk": _TEXT,
    "condition": {"type": "str", "choices": list(settings.CONDITIONS)},
    "how": {"type": "str", "choices": list(settings.HOWS)},
    "fill": _TEXT,
    "size": _TEXT,
}
_HEALTH = {"type": "str", "choices": list(settings.HEALTHS)}
_STRESS = {"cpu": _TEXT, "memory": _TEXT, "io": _COUNT}
_LAYER = {
    "layer": {"type": "str", "default": words.DEFAULT_NAME},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "force": {"type": "bool", "default": False},
    "lease": {"type": "str", "default": "10m"},
    "timeline": _TEXT,
    **{word: {"type": "raw"} if word == "trace" else _TEXT for word in ARMING},
    "seed": _COUNT,
}
_NEEDS_TIMELINE = {word: ("timeline",) for word in ARMING}

LINK: Mapping[str, Any] = {
    "argument_spec": {**_WAYS, **_LAYER},
    "required_if": [("state", "present", KINDS["link"], True)],
    "required_by": _NEEDS_TIMELINE,
}
QUOTA: Mapping[str, Any] = {
    "argument_spec": {
        **{name: _TEXT for name in KINDS["quota"]},
        **dict.fromkeys(("read_iops", "write_iops", "pids"), _COUNT),
        **_LAYER,
    },
    "required_if": [("state", "present", KINDS["quota"], True)],
    "required_by": _NEEDS_TIMELINE,
}
DISK: Mapping[str, Any] = {
    "argument_spec": {**_DISK, **_LAYER},
    "required_if": [("state", "present", ("condition", "fill", "size"), True)],
    "required_by": _NEEDS_TIMELINE,
}
HEALTH: Mapping[str, Any] = {
    "argument_spec": {"health": _HEALTH, **_LAYER},
    "required_if": [("state", "present", KINDS["health"])],
    "required_by": _NEEDS_TIMELINE,
}
STRESS: Mapping[str, Any] = {
    "argument_spec": {**_STRESS, **_LAYER},
    "required_if": [("state", "present", KINDS["stress"], True)],
    "required_by": _NEEDS_TIMELINE,
}
LAYER: Mapping[str, Any] = {
    "argument_spec": {
        "link": {
            "type": "dict",
            "options": _WAYS,
            "required_one_of": [KINDS["link"]],
        },
        "quota": {"type": "dict"},
        "disk": {
            "type": "dict",
            "options": _DISK,
            "required_one_of": [("condition", "fill", "size")],
        },
        "health": {"type": "dict", "options": {"health": {**_HEALTH, "required": True}}},
        "stress": {"type": "dict", "options": _STRESS, "required_one_of": [KINDS["stress"]]},
        **_LAYER,
    },
    "required_if": [("state", "present", tuple(KINDS), True)],
    "required_by": _NEEDS_TIMELINE,
}
TIMELINE: Mapping[str, Any] = {
    "argument_spec": {
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["begun", "absent"], "default": "begun"},
    },
}
