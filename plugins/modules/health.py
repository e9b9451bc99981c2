#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) The pkgctl authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: health
short_description: Pause, stop or crash a node
version_added: 0.1.0
author: The pkgctl authors (@pkgctl)
description:
  - Brings this node into a state, as a named layer. Of several layers the harshest state holds,
    V(crashed), then V(stopped), then V(paused).
  - While a node is not running, nothing reaches it and no job starts on it. Once the last such
    layer is gone, the node runs again.
  - A virtual machine is suspended, shut down or switched off, and started again, by C(virsh) on the
    controller, which also keeps the layers. The task waits until a machine that it started answers.
  - To cut a running node off, isolate it by the playbook C(perturb.yml) with C(health=isolated).
options:
  health:
    description:
      - V(paused) freezes all processes where they are. They go on when the layer is gone.
      - V(stopped) ends all processes, first politely, and unmounts the disks.
      - V(crashed) kills all processes at once. What was in memory is lost, the disks stay as they
        were.
      - Required with O(state=present).
    type: str
    choices: [paused, stopped, crashed]
extends_documentation_fragment:
  - pkgctl.testbed.layer
seealso:
  - module: pkgctl.testbed.layer
  - module: pkgctl.testbed.perturbation
"""

EXAMPLES = r"""
- name: The node stands still
  pkgctl.testbed.health:
    health: paused

- name: The node goes on
  pkgctl.testbed.health:
    state: absent

- name: Two seconds after the timeline begins the node crashes, and is back ten seconds later
  pkgctl.testbed.health:
    layer: outage
    health: crashed
    timeline: storm
    start: 2s
    duration: 10s
"""

RETURN = r"""
actions:
  description: What was done, or would be done, a line each.
  returned: success
  type: list
  elements: str
  sample: ["close links", "freeze"]
diff:
  description: The node's health before and after, as text.
  returned: success
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import parts, specifications
from ..module_utils.answering import answer


def main() -> None:
    answer(AnsibleModule(**specifications.HEALTH, supports_check_mode=True), parts.set_health)


if __name__ == "__main__":
    main()
