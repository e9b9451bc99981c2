#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) The pkgctl authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: timeline
short_description: Begin or drop a timeline of armed layers
version_added: 0.1.0
author: The pkgctl authors (@pkgctl)
description:
  - The modules M(pkgctl.testbed.layer), M(pkgctl.testbed.link), M(pkgctl.testbed.quota),
    M(pkgctl.testbed.disk), M(pkgctl.testbed.health) and M(pkgctl.testbed.stress) arm layers on a
    timeline. Nothing happens until the timeline begins.
  - On a local testbed one agent serves all nodes, so one call on any node begins the timeline of
    all.
  - Virtual machines have an agent each. With C(run_once), one call begins the timeline on all nodes
    of the play that are running, at one instant, and on the controller what it has of their health.
attributes:
  action:
    description:
      - Has a corresponding action plugin. On a node of this machine it does the work, and no
        interpreter is started inside the node. For virtual machines it asks their agents over SSH.
        Elsewhere, and with become, the module does.
    support: full
  check_mode:
    description: Can run in check mode and say what would change, without changing it.
    support: full
  diff_mode:
    description: Will return details on what has changed when in diff mode.
    support: none
options:
  name:
    description: The timeline's name.
    type: str
    required: true
  state:
    description:
      - V(begun) starts its clock now. What is under way already goes on, so beginning it again
        does nothing.
      - V(absent) forgets what is armed on it, and ends what it has in force.
    type: str
    choices: [begun, absent]
    default: begun
seealso:
  - module: pkgctl.testbed.layer
"""

EXAMPLES = r"""
- name: The storm begins
  pkgctl.testbed.timeline:
    name: storm
  run_once: true

- name: The storm is called off
  pkgctl.testbed.timeline:
    name: storm
    state: absent
  run_once: true
"""

RETURN = r"""
uncertainty:
  description: By how many seconds the clock of an agent may have been read wrongly.
  returned: when a timeline begins on virtual machines
  type: float
  sample: 0.002
steps:
  description: How many armed layers the timeline had.
  returned: success, but not in check mode
  type: int
  sample: 4
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import arming, specifications
from ..module_utils.answering import answer


def main() -> None:
    answer(AnsibleModule(**specifications.TIMELINE, supports_check_mode=True), arming.perform)


if __name__ == "__main__":
    main()
