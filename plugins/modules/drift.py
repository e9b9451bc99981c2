#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) The pkgctl authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: drift
short_description: Compare a node with what was asked of it
version_added: 0.1.0
author: The pkgctl authors (@pkgctl)
description:
  - Reads back what the kernel has, and compares it with what the layers of the node ask for, in all
    kinds of disturbance. The base layer of the links is compared with the testbed's description
    too.
  - It changes nothing, whatever it finds.
attributes:
  action:
    description:
      - Has a corresponding action plugin. On a node of this machine it does the work, and no
        interpreter is started inside the node. Elsewhere, and with become, the module does.
    support: full
  check_mode:
    description: Can run in check mode.
    support: full
  diff_mode:
    description: Will return details on what has changed when in diff mode.
    support: none
options:
  fail:
    description: Whether a difference is a failure.
    type: bool
    default: true
  base:
    description:
      - The links of the node by the testbed's description, C(egress) and C(ingress) by peer, in
        plain numbers. On a node of this machine they are known if left out.
    type: dict
seealso:
  - module: pkgctl.testbed.measure
  - module: pkgctl.testbed.verification
"""

EXAMPLES = r"""
- name: The node is as asked
  pkgctl.testbed.drift:

- name: What differs is only told
  pkgctl.testbed.drift:
    fail: false
  register: look
"""

RETURN = r"""
drift:
  description: How the node differs from what its layers ask for, a line each.
  returned: always
  type: list
  elements: str
  sample: ["link: needs: set class 7067:11 to 5mbit"]
in_force:
  description: What all layers of the node add up to, its C(health) and its C(links).
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import measuring
from ..module_utils.errors import DisturbanceError


def main() -> None:
    module = AnsibleModule(**measuring.DRIFT, supports_check_mode=True)
    try:
        report = measuring.look(module.params, dry_run=module.check_mode)
    except (DisturbanceError, ValueError) as error:
        module.fail_json(msg=str(error))
    if report.pop("failed", False):
        module.fail_json(**report)
    module.exit_json(**report)


if __name__ == "__main__":
    main()
