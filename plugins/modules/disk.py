#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) The pkgctl authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: disk
short_description: Take a node's disk away, make it read-only, fill it or resize it
version_added: 0.1.0
author: The pkgctl authors (@pkgctl)
description:
  - Brings a data disk of this node into a condition, as a named layer. Of several layers the
    harshest condition holds, the highest level and the smallest size.
  - The data on the disk stay. A disk that is in use is not taken away; the error names who uses it.
options:
  disk:
    description: The name of the disk in the topology. May be left out if the node has only one.
    type: str
  condition:
    description:
      - What the disk should be. A V(detached) disk is gone as a device too.
      - One of O(condition), O(fill) and O(size) is required with O(state=present).
    type: str
    choices: [unmounted, readonly, mounted, detached]
  how:
    description:
      - How the disk goes, with O(condition=unmounted) or O(condition=readonly). V(clean) refuses a
        disk that is in use. V(lazy) lets those who use it go on. V(force) gives them errors.
      - As V(clean) if left out. A detached disk is pulled, and always gives errors.
    type: str
    choices: [clean, lazy, force]
  fill:
    description: The part of the disk that is taken, such as V(90%).
    type: str
  size:
    description: What the disk holds, such as V(64Mi). Not more than the topology gives it.
    type: str
extends_documentation_fragment:
  - pkgctl.testbed.layer
seealso:
  - module: pkgctl.testbed.layer
  - module: pkgctl.testbed.perturbation
"""

EXAMPLES = r"""
- name: The data disk is gone
  pkgctl.testbed.disk:
    disk: data
    condition: unmounted

- name: The data disk is nearly full
  pkgctl.testbed.disk:
    layer: full
    fill: 95%

- name: The disk is pulled out, whoever uses it
  pkgctl.testbed.disk:
    condition: detached
    how: lazy

- name: The data disk is back
  pkgctl.testbed.disk:
    state: absent

- name: Ten seconds after the timeline begins the disk turns read-only
  pkgctl.testbed.disk:
    layer: worn
    condition: readonly
    timeline: ageing
    start: 10s
"""

RETURN = r"""
actions:
  description: What was done, or would be done, a line each.
  returned: success
  type: list
  elements: str
  sample: ["data: unmounted"]
diff:
  description: The disks before and after, as text.
  returned: success
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import parts, specifications
from ..module_utils.answering import answer


def main() -> None:
    answer(AnsibleModule(**specifications.DISK, supports_check_mode=True), parts.set_disk)


if __name__ == "__main__":
    main()
