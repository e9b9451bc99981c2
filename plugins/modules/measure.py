#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) The pkgctl authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: measure
short_description: Measure a link from the node where the task runs
version_added: 0.1.0
author: The pkgctl authors (@pkgctl)
description:
  - Measures round trips, loss or goodput toward a peer. The peer must listen, which this module
    begins and ends too.
  - Which pairs to measure, how, and what follows from the answers, M(pkgctl.testbed.verification)
    says. The playbook C(verify.yml) joins the two.
attributes:
  action:
    description:
      - Has a corresponding action plugin. On a node of this machine it does the work, outside of
        the node's limits. Elsewhere, and with become, the module does.
    support: full
  check_mode:
    description: Can run in check mode, and then measures nothing.
    support: full
  diff_mode:
    description: Will return details on what has changed when in diff mode.
    support: none
options:
  state:
    description:
      - V(listening) makes the node answer those who measure, until it is V(silent) again.
      - V(measured) measures from this node.
    type: str
    choices: [measured, listening, silent]
    default: measured
  dst:
    description: The peer toward which to measure.
    type: str
  what:
    description: What to measure.
    type: str
    choices: [rtt, loss, goodput]
  options:
    description: How, as the probe takes it, such as V(--count) and V(25).
    type: list
    elements: str
    default: []
  streams:
    description: How many probes measure side by side.
    type: int
    default: 1
seealso:
  - module: pkgctl.testbed.drift
  - module: pkgctl.testbed.verification
"""

EXAMPLES = r"""
- name: The node answers
  pkgctl.testbed.measure:
    state: listening

- name: How long it takes to cloud-1 and back
  pkgctl.testbed.measure:
    dst: cloud-1
    what: rtt
  register: trip

- name: The node answers no more
  pkgctl.testbed.measure:
    state: silent
"""

RETURN = r"""
answers:
  description: What each probe has found; an empty mapping if it could not measure.
  returned: success
  type: list
  elements: dict
  sample: [{"count": 25, "lost": 0, "p50": 0.0201, "p95": 0.0203}]
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import measuring
from ..module_utils.answering import answer


def main() -> None:
    answer(AnsibleModule(**measuring.MEASURE, supports_check_mode=True), measuring.measure)


if __name__ == "__main__":
    main()
