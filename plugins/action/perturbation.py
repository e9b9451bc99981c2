# -*- coding: utf-8 -*-
# Copyright: (c) The pkgctl authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars

from ..module_utils import perturbation, tracefiles
from ..module_utils.selection import Node
from ..module_utils.specifications import ARMING
from ..module_utils.tracefiles import FileReader

GROUP = "nodes"
# Variables with these beginnings are for Ansible and for the inventory.
_PASSED_ON = ("ansible_", "pkgctl_")


class ActionModule(ActionBase):
    """Turns the words given with -e into what each node has to do; changes nothing."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _VALID_ARGS = frozenset({"meaning", "words"})

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the plan, or a failure in one line."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            argument_spec={
                "meaning": {"type": "str", "choices": list(_MEANINGS), "default": "disturb"},
                "words": {"type": "dict"},
            }
        )
        words = arguments["words"]
        if words is None:
            words = given_words(load_extra_vars(self._loader))
        try:
            found = nodes(task_vars or {})
            read_file = tracefiles.beside(Path.cwd(), Path(self._loader.get_basedir()))
            return {**result, **_MEANINGS[arguments["meaning"]](words, found, read_file)}
        except ValueError as error:
            return {**result, "failed": True, "msg": str(error)}


def given_words(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables that are words, not settings of Ansible or of the inventory."""
    return {name: value for name, value in variables.items() if not name.startswith(_PASSED_ON)}


def nodes(task_vars: Mapping[str, Any]) -> list[Node]:
    """Return what the inventory says about the nodes, in its order.

    Raises:
        ValueError: if it has none.
    """
    names = task_vars["groups"].get(GROUP)
    if not names:
        raise ValueError(task_vars.get("pkgctl_problem", f"the inventory has no group {GROUP!r}"))
    return [_node(name, task_vars["hostvars"].raw_get(name)) for name in names]


def _node(name: str, variables: Mapping[str, Any]) -> Node:
    return Node(
        name=str(name),
        site=str(variables.get("pkgctl_site", "")),
        role=str(variables.get("pkgctl_role", "")),
        kind=str(variables.get("pkgctl_kind", "")),
        labels={str(key): str(value) for key, value in variables.get("pkgctl_labels", {}).items()},
        disks=tuple(str(disk) for disk in variables.get("pkgctl_disks", ())),
    )


def _disturb(words: Mapping[str, Any], found: list[Node], read_file: FileReader) -> dict[str, Any]:
    asked = perturbation.read(words, read_file)
    plan = asked.plan(found)
    return {
        "layer": asked.name,
        "hosts": list(plan),
        "plan": plan,
        "force": asked.force,
        "lease": words.get("lease"),
        "timeline": asked.timeline,
        "begins": asked.timeline is not None and "timeline" not in words,
        "times": _times(words, asked) if asked.timeline is not None else {},
    }


def _times(words: Mapping[str, Any], asked: perturbation.Perturbation) -> dict[str, Any]:
    """Return the times as options, with the rows of a trace for the name of its file."""
    given = {word: words[word] for word in ARMING if words.get(word) is not None}
    if asked.timing.trace is not None:
        given["trace"] = [[moment, dict(row)] for moment, row in asked.timing.trace]
    return {**given, "seed": asked.seed}


def _heal(words: Mapping[str, Any], found: list[Node], _: FileReader) -> dict[str, Any]:
    asked = perturbation.read_healing(words)
    return {"layers": list(asked.names) or ["*"], "hosts": asked.hosts(found)}


_MEANINGS = {"disturb": _disturb, "heal": _heal}
