#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) The pkgctl authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: link
short_description: Set the quality of a node's links
version_added: 0.1.0
author: The pkgctl authors (@pkgctl)
description:
  - Sets bandwidth, delay, jitter, loss, duplication, overtaking and bit errors between this node
    and its peers, as a named layer.
  - Layers add up. The smallest rate holds, delays add, jitters add as variances, and a packet must
    survive the loss of each. Duplicates, overtaking and bit errors add up as losses do.
  - Every direction has two ends. The sender bounds the rate, the receiver delays and drops. So give
    each direction to both, as O(egress) to the sender and as O(ingress) to the receiver. The
    playbook C(perturb.yml) does that by itself.
options:
  egress:
    description:
      - The quality of the direction from this node to each peer, by the peer's name.
      - Each is a mapping with some of C(rate) (such as V(5mbit)), C(delay) (one way, such as
        V(40ms)), C(jitter) (the standard deviation, such as V(2ms)) and C(loss) (such as V(1%);
        V(100%) cuts the direction).
      - C(distribution) says how jitter scatters the delay, V(normal) (if left out), V(uniform),
        V(pareto), or a list of 2 to 4096 rising quantiles with mean 0 and deviation 1.
      - C(burst) is the mean number of packets in a bad spell, in which all are lost. Without it
        each packet is lost by itself.
      - C(duplicate), C(reorder) (not delayed, so that it overtakes others) and C(corrupt) (one bit
        flipped) are parts of the packets, such as V(1%).
      - The peer V(*) stands for every peer that is not listed.
    type: dict
  ingress:
    description: The quality of the direction from each peer to this node, written as O(egress).
    type: dict
extends_documentation_fragment:
  - pkgctl.testbed.layer
seealso:
  - module: pkgctl.testbed.layer
  - module: pkgctl.testbed.perturbation
"""

EXAMPLES = r"""
- name: This node sends at most 5 mbit/s to cloud-1
  pkgctl.testbed.link:
    egress:
      cloud-1: {rate: 5mbit}

- name: Whatever arrives here is late, and from cloud-1 later
  pkgctl.testbed.link:
    layer: slow
    ingress:
      "*": {delay: 10ms}
      cloud-1: {delay: 40ms, jitter: 2ms, loss: 1%}

- name: What comes from cloud-1 is lost in bursts of five
  pkgctl.testbed.link:
    layer: noisy
    ingress:
      cloud-1: {loss: 2%, burst: 5}
    lease: none

- name: The layer slow is gone
  pkgctl.testbed.link:
    layer: slow
    state: absent

- name: Two seconds after the timeline begins, nothing arrives from edge-2 for half a minute
  pkgctl.testbed.link:
    layer: cut
    ingress:
      edge-2: {loss: 100%}
    timeline: storm
    start: 2s
    duration: 30s
"""

RETURN = r"""
actions:
  description: What was done, or would be done, a line each.
  returned: success
  type: list
  elements: str
  sample: ["set class 7067:11 to 5mbit"]
diff:
  description: The links before and after, as text.
  returned: success
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import parts, specifications
from ..module_utils.answering import answer


def main() -> None:
    answer(AnsibleModule(**specifications.LINK, supports_check_mode=True), parts.set_link)


if __name__ == "__main__":
    main()
