# SPDX-License-Identifier: GPL-3.0-or-later
"""Actions that do a module's work where it costs least, or where alone it can be done.

On a node of this machine the work is called inside the node: a module is packed, sent, unpacked and
compiled for each host, and runs under the node's limits, which takes a third of a second at best,
and minutes on a node that was left a hundredth of a core. On virtual machines their agent does the
work if its code is the same as here, else the module. Their health is changed from here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase

from ..module_utils import condition, layers
from ..module_utils.bodies import given
from ..module_utils.domains import Guest
from ..module_utils.errors import DisturbanceError, NodeError
from ..module_utils.parts import EVERY_LAYER
from ..module_utils.specifications import KINDS
from . import agents, carrying, machines
from .machines import Report

HEALTH = "health"
REST = tuple(kind for kind in KINDS if kind != HEALTH)
Options = Mapping[str, Any]


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
        variables = task_vars or {}
        if machines.is_machine(variables):
            node = machines.guest(variables)
            return {**result, **_told(lambda: self.on_machine(node, variables))}
        if self._connection.become is not None or not hasattr(self._connection, "call"):
            return {**result, **self._execute_module(task_vars=task_vars)}
        options, dry_run = self.options(), self.dry_run
        answer = self._connection.call(lambda: _told(lambda: self.work(options, dry_run=dry_run)))
        return {**result, **answer}

    @property
    def dry_run(self) -> bool:
        """Whether only to say what would be done."""
        return bool(self._task.check_mode)

    def options(self) -> Options:
        """Return the task's options, judged as the module would."""
        _, options = self.validate_argument_spec(**self.specification)
        found: Options = options
        return found

    def on_machine(self, node: Guest, variables: machines.Variables) -> Report:
        """Return the report of a node that is a virtual machine.

        Raises:
            DisturbanceError: in one line.
            ValueError: in one line, for an option that cannot be read.
        """
        machines.check_up(node)
        return self.module(node, variables, self.options())

    def module(self, node: Guest, variables: machines.Variables, options: Options) -> Report:
        """Do a module's work on a virtual machine; one that does not answer is explained."""
        try:
            report = self._by_agent(variables, options)
            return self._by_module(variables, options) if report is None else report
        except AnsibleConnectionFailure as error:
            raise AnsibleConnectionFailure(machines.explained(node, error)) from None

    def _by_agent(self, variables: machines.Variables, options: Options) -> Report | None:
        if self._connection.become is not None:
            return None
        return agents.perform(
            str(self._task.action).rpartition(".")[2],
            options,
            dry_run=self.dry_run,
            python=str(variables.get("ansible_python_interpreter", "python3")),
            execute=lambda command, told: self._low_level_execute_command(
                command, sudoable=False, in_data=told
            ),
        )

    def _by_module(self, variables: machines.Variables, options: Options) -> Report:
        arguments = {name: value for name, value in options.items() if value is not None}
        report: Report = self._execute_module(module_args=arguments, task_vars=dict(variables))
        return report


class Layered(Placed):
    """An action that sets a layer, or takes it away.

    Attributes:
        kinds: the kinds that its module knows, but health.
        has_health: whether it knows health too.
    """

    kinds: ClassVar[tuple[str, ...]] = ()
    has_health: ClassVar[bool] = False

    def asked_kinds(self, options: Options) -> tuple[tuple[str, ...], Options | None]:
        """Return which kinds are to be set on the node, and what is to be set of its health."""
        return self.kinds, given(options, KINDS[HEALTH]) if self.has_health else None

    def on_machine(self, node: Guest, variables: machines.Variables) -> Report:
        """Set all else first and health last; take health away first and all else last."""
        options = self.options()
        if options["state"] == "present":
            return self._set(node, variables, options)
        return self._take_away(node, variables, options)

    def _set(self, node: Guest, variables: machines.Variables, options: Options) -> Report:
        rest, health = self.asked_kinds(options)
        machines.check_trigger(
            node, options.get("when"), health=health is not None, rest=bool(rest)
        )
        report: Report = {}
        if rest:
            machines.check_up(node)
            if not self.dry_run:
                carrying.note(node, str(options["layer"]), rest)
            report = self.module(node, variables, {**options, HEALTH: None})
        if health is None or report.get("failed"):
            return report
        found = machines.set_health(node, options, health, dry_run=self.dry_run)
        if not condition.is_up(condition.load(node.directory)):
            self._hang_up()
        return machines.merged(report, found)

    def _take_away(self, node: Guest, variables: machines.Variables, options: Options) -> Report:
        then = self._condition_after(node, options)
        found: Report = {}
        if self.has_health:
            found = machines.set_health(node, options, {}, dry_run=self.dry_run)
            if found["actions"] and not self.dry_run and condition.is_up(then):
                self._hang_up()
                self._await(node, variables)
        if not self.kinds:
            return found
        layer = None if options["layer"] == EVERY_LAYER else str(options["layer"])
        if not condition.is_up(then):
            return machines.merged(found, _nothing_left(node, layer, self.kinds, then))
        if self.dry_run and found.get("actions"):
            return machines.merged(found, _to_come(node, layer, self.kinds))
        report = self.module(node, variables, options)
        if not self.dry_run and not report.get("failed"):
            carrying.forget(node, layer, self.kinds)
        return machines.merged(found, report)

    def _condition_after(self, node: Guest, options: Options) -> str:
        """Return in which condition the node should be once the layer is gone."""
        stored = layers.load(Path(node.directory, condition.STORE))
        if self.has_health:
            layer = None if options["layer"] == EVERY_LAYER else str(options["layer"])
            stored = layers.changed(stored, layer, None)
        return condition.composed(stored)

    def _await(self, node: Guest, variables: machines.Variables) -> None:
        """Wait until a machine that was started is ready."""
        python = str(variables.get("ansible_python_interpreter", "python3"))
        machines.wait(
            node,
            lambda: self._low_level_execute_command(
                machines.READY.format(python=python), sudoable=False
            ),
            float(variables.get(machines.PATIENCE_VARIABLE, machines.PATIENCE)),
        )

    def _hang_up(self) -> None:
        """End the connection that is kept open to a machine, which will know nothing of it."""
        with suppress(AnsibleError, OSError, AttributeError):
            self._connection.reset()


def _nothing_left(node: Guest, layer: str | None, kinds: Collection[str], now: str) -> Report:
    """Return that there is nothing to take away on a node that is down.

    Raises:
        NodeError: if there may be.
    """
    if carrying.carries(node, layer, kinds):
        raise NodeError(
            f"node {node.name} is {now}: what else it has of layer {layer} can go when it runs"
        )
    return {}


def _to_come(node: Guest, layer: str | None, kinds: Collection[str]) -> Report:
    """Return what a dry run can say of a node that is still down."""
    there = carrying.carries(node, layer, kinds)
    return {"changed": there, "actions": ["take away what else it carries"] * there}


def _told(work: Callable[[], Mapping[str, object]]) -> dict[str, Any]:
    """Return a report, or a failure in one line."""
    try:
        return dict(work())
    except (DisturbanceError, ValueError) as error:
        return {"failed": True, "msg": str(error)}
