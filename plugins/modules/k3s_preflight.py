#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) The pkgctl authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_preflight
short_description: Check that a machine can be a node of a K3s cluster
version_added: 0.1.0
author: The pkgctl authors (@pkgctl)
description:
  - Looks for what would keep K3s from running here, and fails with all of it in one line. That is
    a user who is not root, a service of K3s for another kind of node, control groups and the
    overlay file system, memory, the node's address, ports that others have, a clock that is off.
  - It changes nothing.
attributes:
  check_mode:
    description: Can run in check mode.
    support: full
  diff_mode:
    description: Will return details on what has changed when in diff mode.
    support: none
options:
  unit:
    description: The service that may be there and have the ports already, C(k3s) or C(k3s-agent).
    type: str
    required: true
  ports:
    description: The ports that it needs.
    type: list
    elements: dict
    default: []
    suboptions:
      port:
        description: Its number.
        type: int
        required: true
      protocol:
        description: What is spoken there.
        type: str
        choices: [tcp, udp]
        default: tcp
  data_dir:
    description: Where K3s will have its state; any will do if left out.
    type: path
  address:
    description: The address that the node has to have; any will do if empty.
    type: str
    default: ""
  interface:
    description: The network card that it has to have; any will do if empty.
    type: str
    default: ""
  now:
    description: The controller's time in seconds of the epoch. If left out no clock is looked at.
    type: float
seealso:
  - module: pkgctl.testbed.bundle
  - module: pkgctl.testbed.unit
"""

EXAMPLES = r"""
- name: The machine can be a server
  pkgctl.testbed.k3s_preflight:
    unit: k3s
    address: 10.77.0.1
    ports:
      - {port: 6443}
      - {port: 8472, protocol: udp}
"""

RETURN = r"""
cpu:
  description: The processors of the machine.
  returned: success
  type: int
memory:
  description: The memory of the machine in bytes.
  returned: success
  type: int
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import k3schecks
from ..module_utils.answering import answer


def main() -> None:
    answer(AnsibleModule(**k3schecks.PREFLIGHT, supports_check_mode=True), k3schecks.check)


if __name__ == "__main__":
    main()
