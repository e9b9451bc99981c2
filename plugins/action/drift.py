# -*- coding: utf-8 -*-
# Copyright: (c) The pkgctl authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..module_utils import measuring
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


def described(variables: dict[str, Any]) -> dict[str, Any] | None:
    """Return a node's links by the testbed's description, None where this machine has none."""
    place, node = variables.get("pkgctl_namespaces"), variables.get("inventory_hostname")
    path = Path(str(place)).parents[1] / "state.json" if place else None
    if path is None or not path.is_file():
        return None
    links = json.loads(path.read_text()).get("links", {})
    ingress = {other: row[node] for other, row in links.items() if node in row}
    return {"egress": links.get(node, {}), "ingress": ingress}
