# SPDX-License-Identifier: GPL-3.0-or-later
"""What each module can be told, in the words of Ansible's argument specification.

The modules use it on the nodes, and the actions of the same names on the controller.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import words

LIMITS = ("cpu", "memory", "io", "read_bps", "write_bps", "read_iops", "write_iops", "pids")
KINDS = ("link", "quota", "disk")

_TEXT = {"type": "str"}
_COUNT = {"type": "int"}
_WAYS = {"egress": {"type": "dict"}, "ingress": {"type": "dict"}}
_CONDITION = {"type": "str", "choices": ["mounted", "readonly", "unmounted"]}
_LAYER = {
    "layer": {"type": "str", "default": words.DEFAULT_NAME},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "timeline": _TEXT,
    "start": _TEXT,
    "duration": _TEXT,
}
_TIMES = {"start": ("timeline",), "duration": ("timeline",)}

LINK: Mapping[str, Any] = {
    "argument_spec": {**_WAYS, **_LAYER},
    "required_if": [("state", "present", ("egress", "ingress"), True)],
    "required_by": _TIMES,
}
QUOTA: Mapping[str, Any] = {
    "argument_spec": {
        "cpu": _TEXT,
        "memory": _TEXT,
        "io": _TEXT,
        "read_bps": _TEXT,
        "write_bps": _TEXT,
        "read_iops": _COUNT,
        "write_iops": _COUNT,
        "pids": _COUNT,
        "force": {"type": "bool", "default": False},
        **_LAYER,
    },
    "required_if": [("state", "present", LIMITS, True)],
    "required_by": _TIMES,
}
DISK: Mapping[str, Any] = {
    "argument_spec": {"disk": _TEXT, "condition": _CONDITION, **_LAYER},
    "required_if": [("state", "present", ("condition",))],
    "required_by": _TIMES,
}
LAYER: Mapping[str, Any] = {
    "argument_spec": {
        "link": {
            "type": "dict",
            "options": _WAYS,
            "required_one_of": [("egress", "ingress")],
        },
        "quota": {"type": "dict"},
        "disk": {
            "type": "dict",
            "options": {"disk": _TEXT, "condition": {**_CONDITION, "required": True}},
        },
        **_LAYER,
    },
    "required_if": [("state", "present", KINDS, True)],
    "required_by": _TIMES,
}
TIMELINE: Mapping[str, Any] = {
    "argument_spec": {
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["begun", "absent"], "default": "begun"},
    },
}
