# -*- coding: utf-8 -*-
# Copyright: (c) The pkgctl authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ..module_utils import arming, specifications
from ..module_utils.domains import Guest
from ..plugin_utils import beginnings, machines
from ..plugin_utils.placing import Placed


class ActionModule(Placed):
    specification = specifications.TIMELINE
    work = staticmethod(arming.perform)

    def on_machine(self, node: Guest, variables: machines.Variables) -> machines.Report:
        """Begin or drop a timeline on this node, or with run_once on all nodes of the play.

        Each virtual machine has an agent of its own, and their health has the watchman.
        """
        options = self.options()
        hosts: dict[str, Any] = {node.name: variables}
        if self._task.run_once:
            names = variables["ansible_play_hosts_all"]
            hosts = {str(name): variables["hostvars"][name] for name in names}
        up, down = beginnings.sorted_out(hosts)
        report = beginnings.perform(machines.testbed(node), up, options, dry_run=self.dry_run)
        told = [f"{name} is {now}, and has no part in the timeline" for name, now in down.items()]
        return {**report, **({"warnings": told} if told else {})}
