#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) The pkgctl authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node
short_description: Make this machine a node of a testbed
version_added: 0.1.0
author: The pkgctl authors (@pkgctl)
description:
  - Writes who the node is, the base of its links, limits and disks, and the names of all nodes in
    C(/etc/hosts). Sees that its agent runs, and brings everything to what the layers of the node
    ask for.
  - The machine must have been prepared, as the roles C(base) and C(node_agent) do it. Nodes of a
    local testbed need none of this.
  - What cannot be read, or cannot be had, changes nothing.
attributes:
  check_mode:
    description: Can run in check mode.
    support: full
  diff_mode:
    description: Will return details on what has changed when in diff mode.
    support: full
options:
  identity:
    description:
      - Who the node is, as C(node.json) has it. C(name), C(testbed), C(interface), C(address),
        C(network), C(peers) (the addresses of all other nodes by name), C(access) (bits a second
        that all that leaves shares, or null), C(cgroup), C(cpu), C(memory), C(pids), and perhaps
        C(address6), C(peers6), C(disks) and C(access_down) (bits a second that all that arrives
        shares).
    type: dict
    required: true
  links:
    description: The base of the node's links, in plain numbers.
    type: dict
    default: {}
    suboptions:
      egress:
        description:
          - The quality of the direction to each peer, with C(rate) in bits a second, C(delay) and
            C(jitter) in seconds, C(loss) as a part of 1.
        type: dict
      ingress:
        description: The quality of the direction from each peer.
        type: dict
  limits:
    description:
      - The base of the node's limits, C(cpu) in cores, C(memory) in bytes and C(pids). Those of
        O(identity) if left out.
    type: dict
  impairment:
    description:
      - What delays, loses and damages packets. V(netem) is the kernel's own, V(delay line) a
        process of the node's. V(auto) takes netem where the kernel has it.
    type: str
    choices: [auto, netem, delay line]
    default: auto
  agent:
    description: Whether C(pkgctl-agent.service) is to run.
    type: bool
    default: true
seealso:
  - module: pkgctl.testbed.machine
  - module: pkgctl.testbed.drift
"""

EXAMPLES = r"""
- name: The machine is the node that the inventory says
  pkgctl.testbed.node:
    identity: "{{ pkgctl_identity }}"
    links:
      egress: "{{ pkgctl_base.egress }}"
      ingress: "{{ pkgctl_base.ingress }}"

- name: Likewise, with the delay line
  pkgctl.testbed.node:
    identity: "{{ pkgctl_identity }}"
    links:
      egress: {edge-2: {rate: 5000000, delay: 0.02}}
      ingress: {edge-2: {rate: 20000000, delay: 0.02}}
    impairment: delay line
"""

RETURN = r"""
actions:
  description: What was done, or would be done, a line each.
  returned: success
  type: list
  elements: str
  sample: ["describe the node", "set class 7067:11"]
diff:
  description: The description, links, limits and disks before and after, as text.
  returned: success
  type: list
  elements: dict
impairment:
  description: What delays, loses and damages packets here.
  returned: success
  type: str
  sample: netem
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import settling
from ..module_utils.answering import answer


def main() -> None:
    answer(AnsibleModule(**settling.NODE, supports_check_mode=True), settling.settle)


if __name__ == "__main__":
    main()
