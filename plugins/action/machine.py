# -*- coding: utf-8 -*-
# Copyright: (c) The pkgctl authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
from typing import Any

from ansible.plugins.action import ActionBase

from ..module_utils import preparing
from ..plugin_utils import packing


class ActionModule(ActionBase):
    """Packs the nodes' code, and sends it along to machines that have another."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the module's report."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(**preparing.MACHINE)
        arguments = {key: value for key, value in options.items() if value is not None}
        if options["code"]:
            arguments.update(self._code())
        report = self._execute_module(module_args=arguments, task_vars=task_vars)
        report.pop("invocation", None)
        return {**result, **report}

    def _code(self) -> dict[str, str]:
        packed = packing.pack()
        # A look costs less than the archive, or a module, would.
        place = f"{preparing.CODE}/{preparing.DIGEST}"
        seen = self._low_level_execute_command(f"cat {place}", sudoable=True)
        if seen["stdout"].strip() == packed.digest or self._task.check_mode:
            return {"digest": packed.digest}
        archive = base64.b64encode(packed.content).decode()
        return {"digest": packed.digest, "archive": archive}
