# -*- coding: utf-8 -*-
# Copyright: (c) The pkgctl authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..module_utils import condition, domains, measuring
from ..module_utils.domains import Guest
from ..module_utils.errors import DisturbanceError
from ..plugin_utils import machines
from ..plugin_utils.placing import Placed


class ActionModule(Placed):
    specification = measuring.DRIFT
    work = staticmethod(measuring.look)

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the module's report; it is told what the testbed's description says."""
        if "base" not in self._task.args:
            base = described(task_vars or {})
            self._task.args = {**self._task.args, **({} if base is None else {"base": base})}
        return super().run(tmp, task_vars)

    def on_machine(self, node: Guest, variables: machines.Variables) -> machines.Report:
        """Compare the domain with the layers of health here, and all else on the node."""
        options = self.options()
        asked = condition.load(node.directory)
        lines = _drift(node, asked)
        if lines or not condition.is_up(asked):
            # What cannot be asked is what its topology says.
            known, base = variables["pkgctl_identity"], options.get("base") or {}
            found = {"access": known["access"], "links": base}
            return measuring.judged(options, lines, {**found, "health": asked})
        report = self.module(node, variables, {**options, "fail": False})
        if "in_force" not in report:
            return report
        return {**report, **measuring.judged(options, report["drift"], report["in_force"])}


def _drift(node: Guest, asked: str) -> list[str]:
    try:
        return [f"health: needs: {step}" for step in domains.steps(domains.read(node), asked)]
    except DisturbanceError as error:
        return [f"health: {error}"]


def described(variables: machines.Variables) -> dict[str, Any] | None:
    """Return a node's links by the testbed's description, None where this machine has none."""
    if machines.is_machine(variables):
        return {way: variables["pkgctl_base"][way] for way in ("egress", "ingress")}
    place, node = variables.get("pkgctl_namespaces"), variables.get("inventory_hostname")
    path = Path(str(place)).parents[1] / "state.json" if place else None
    if path is None or not path.is_file():
        return None
    links = json.loads(path.read_text()).get("links", {})
    ingress = {other: row[node] for other, row in links.items() if node in row}
    return {"egress": links.get(node, {}), "ingress": ingress}
