# -*- coding: utf-8 -*-
# Copyright: (c) The pkgctl authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import ansible.constants as constants
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase

from ..module_utils import bundling
from ..module_utils.errors import DisturbanceError
from ..plugin_utils import bundles

Report = dict[str, Any]
# Bytes in one command, for a user who may write to root's folders only by becoming root.
_CHUNK = 4 * 2**20


class ActionModule(ActionBase):
    """Checks a bundle, asks the node what it lacks, sends just that, and has it installed."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> Report:
        """Return the module's report."""
        result: Report = super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(**bundling.BUNDLE)
        self._variables = task_vars or {}
        try:
            return {**result, **self._bring(options)}
        except _Failed as failure:
            return {**result, **failure.report}
        except bundles.BundleError as error:
            return {**result, "failed": True, "msg": str(error)}

    def _bring(self, options: Mapping[str, Any]) -> Report:
        if options["state"] == "absent":
            return self._ask({**options, "lock": None}, bundling.INSTALL)
        folder = Path(self._loader.path_dwim(options["path"]))
        lock = bundles.load(folder)
        bundles.wanted(lock, options["version"])
        given = {**options, "path": str(folder), "lock": lock.as_dict()}
        seen = self._ask(given, bundling.LOOK)
        lacking, todo = seen.pop("lacking"), seen.pop("todo")
        # Each host of a play has a process of its own: they leave the sums to one another.
        store = Path(constants.DEFAULT_LOCAL_TMP, "bundle-sums")
        bundles.verify(folder, lock.of(seen["arch"]), store)
        if todo and not self._task.check_mode:
            # What the node says names no file of the controller's but the lock's.
            sources = {each.file: folder / each.file for each in lock.of(seen["arch"])}
            if not {each["file"] for each in lacking} <= sources.keys():
                raise bundles.BundleError("the node asks for what the bundle does not hold")
            self._install(given, {each["part"]: sources[each["file"]] for each in lacking})
        return seen

    def _install(self, given: Mapping[str, Any], parts: Mapping[str, Path]) -> None:
        self._ask(given, bundling.PREPARE)
        try:
            for part, source in parts.items():
                self._send(source, part)
            self._ask(given, bundling.INSTALL)
        except AnsibleConnectionFailure:
            raise  # Nobody is there to tidy up; the next call does.
        except (AnsibleError, _Failed) as error:
            with suppress(_Failed):
                self._ask(given, bundling.TIDY)
            if isinstance(error, _Failed):
                raise
            raise _Failed({"failed": True, "msg": " ".join(str(error).split())}) from error

    def _ask(self, options: Mapping[str, Any], step: str) -> Report:
        """Return the module's report on one step.

        Raises:
            _Failed: with the report of a step that could not be done.
        """
        given = {**options, "step": step}
        if self._connection.become is None and hasattr(self._connection, "call"):
            dry_run = bool(self._task.check_mode)
            report = self._connection.call(
                lambda: _told(lambda: bundling.bring(given, dry_run=dry_run))
            )
        else:
            arguments = {key: value for key, value in given.items() if value is not None}
            report = self._execute_module(module_args=arguments, task_vars=self._variables)
        report.pop("invocation", None)
        if report.get("failed") or report.get("unreachable"):
            raise _Failed(report)
        return dict(report)

    def _send(self, source: Path, part: str) -> None:
        """Copy a file to where it arrives on the node."""
        if self._is_writer():
            self._transfer_file(str(source), part)
            return
        with source.open("rb") as file:
            while chunk := file.read(_CHUNK):
                done = self._low_level_execute_command(
                    f"cat >>{shlex.quote(part)}", in_data=chunk, sudoable=True
                )
                if done["rc"] != 0:
                    raise AnsibleError(f"cannot send {source}: {done['stderr'].strip()}")

    def _is_writer(self) -> bool:
        """Whether the user of the connection is the one who does the work."""
        if self._connection.become is None:
            return True
        seen = self._low_level_execute_command("id -u", sudoable=False)
        return bool(seen["stdout"].strip() == "0")


class _Failed(Exception):  # noqa: N818 - what carries a report, not a mistake
    """A step that could not be done, with what is told of it."""

    def __init__(self, report: Report) -> None:
        super().__init__(str(report.get("msg", "")))
        self.report = report


def _told(work: Callable[[], Mapping[str, object]]) -> Report:
    """Return a report, or a failure in one line."""
    try:
        return dict(work())
    except (DisturbanceError, ValueError) as error:
        return {"failed": True, "msg": str(error)}
