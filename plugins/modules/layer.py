#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) The pkgctl authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: layer
short_description: Put a whole layer of disturbances on a node, or take it away
version_added: 0.1.0
author: The pkgctl authors (@pkgctl)
description:
  - Does in one call what M(pkgctl.testbed.link), M(pkgctl.testbed.quota), M(pkgctl.testbed.disk),
    M(pkgctl.testbed.health) and M(pkgctl.testbed.stress) do one by one. All parts are tried dry
    first, so that what is refused leaves nothing half done.
  - With O(state=absent) it takes all kinds of the layer away together.
options:
  link:
    description: The options of M(pkgctl.testbed.link), O(link.egress) and O(link.ingress).
    type: dict
    suboptions:
      egress:
        description: The quality of the direction from this node to each peer.
        type: dict
      ingress:
        description: The quality of the direction from each peer to this node.
        type: dict
  quota:
    description: The limits of M(pkgctl.testbed.quota), such as V(cpu) and V(memory).
    type: dict
  disk:
    description: The options of M(pkgctl.testbed.disk).
    type: dict
    suboptions:
      disk:
        description: The name of the disk. May be left out if the node has only one.
        type: str
      condition:
        description: What the disk should be.
        type: str
        choices: [unmounted, readonly, mounted, detached]
      how:
        description: How the disk goes.
        type: str
        choices: [clean, lazy, force]
      fill:
        description: The part of the disk that is taken.
        type: str
      size:
        description: What the disk holds.
        type: str
  health:
    description: The options of M(pkgctl.testbed.health).
    type: dict
    suboptions:
      health:
        description: What the node is.
        type: str
        choices: [paused, stopped, crashed]
        required: true
  stress:
    description: The options of M(pkgctl.testbed.stress).
    type: dict
    suboptions:
      cpu:
        description: Workers that compute.
        type: str
      memory:
        description: Bytes that are taken and kept in use.
        type: str
      io:
        description: Workers that write and read files.
        type: int
extends_documentation_fragment:
  - pkgctl.testbed.layer
seealso:
  - module: pkgctl.testbed.link
  - module: pkgctl.testbed.quota
  - module: pkgctl.testbed.disk
  - module: pkgctl.testbed.health
  - module: pkgctl.testbed.stress
"""

EXAMPLES = r"""
- name: The node has a bad day
  pkgctl.testbed.layer:
    layer: bad-day
    link:
      egress:
        "*": {rate: 1mbit}
    quota: {cpu: 0.2, memory: 128Mi}
    disk: {condition: readonly}

- name: The bad day is over
  pkgctl.testbed.layer:
    layer: bad-day
    state: absent

- name: The node is as its topology describes it
  pkgctl.testbed.layer:
    layer: "*"
    state: absent
"""

RETURN = r"""
actions:
  description: What was done, or would be done, a line each.
  returned: success
  type: list
  elements: str
  sample: ["cpu: 200m", "data: readonly"]
diff:
  description: What the kinds were before and are after, as text.
  returned: success
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import parts, specifications
from ..module_utils.answering import answer


def main() -> None:
    answer(AnsibleModule(**specifications.LAYER, supports_check_mode=True), parts.set_layer)


if __name__ == "__main__":
    main()
