# SPDX-License-Identifier: GPL-3.0-or-later
"""Actions that do a module's work without the module, where the connection can call functions.

A module is packed, sent, unpacked and compiled for each host, and runs under the node's limits: a
third of a second at best, and minutes on a node that was left a hundredth of a core.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ansible.plugins.action import ActionBase

from ..module_utils.errors import DisturbanceError


class Placed(ActionBase):
    """An action that calls work inside the node, or else runs the module of its name there."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    specification: ClassVar[Mapping[str, Any]]

    @staticmethod
    def work(options: Mapping[str, Any], *, dry_run: bool) -> dict[str, object]:
        """Return the module's report; runs inside the node."""
        raise NotImplementedError

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the module's report, from wherever it was made."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        if self._connection.become is not None or not hasattr(self._connection, "call"):
            return {**result, **self._execute_module(task_vars=task_vars)}
        _, options = self.validate_argument_spec(**self.specification)
        dry_run = bool(self._task.check_mode)
        return {**result, **self._connection.call(lambda: self._report(options, dry_run=dry_run))}

    def _report(self, options: Mapping[str, Any], *, dry_run: bool) -> dict[str, object]:
        try:
            return self.work(options, dry_run=dry_run)
        except (DisturbanceError, ValueError) as error:
            return {"failed": True, "msg": str(error)}
