#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) The pkgctl authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The action plugin of this name does the work, on the controller; this file documents it.

from __future__ import annotations

DOCUMENTATION = r"""
module: verification
short_description: Plan the measurement of links, and judge what was measured
version_added: 0.1.0
author: The pkgctl authors (@pkgctl)
description:
  - Chooses pairs of nodes, puts their measurements into rounds that do not disturb one another, and
    judges what was measured. It runs on the controller and changes nothing.
  - The words are those given with C(-e), unless O(words) is set. They are C(sample) (how many
    pairs), C(all), C(src) and C(dst) (as in a perturbation), C(budget) (a time) and C(seed).
attributes:
  action:
    description: Has a corresponding action plugin, so some parts run on the controller.
    support: full
  check_mode:
    description: Can run in check mode.
    support: full
  diff_mode:
    description: Will return details on what has changed when in diff mode.
    support: none
options:
  meaning:
    description: What to do. V(judge) fails if a pair is not as asked.
    type: str
    choices: [choose, plan, judge]
    required: true
  words:
    description: The words, instead of those given with C(-e).
    type: dict
  pairs:
    description: The pairs that V(choose) has returned.
    type: list
    elements: list
  facts:
    description: What M(pkgctl.testbed.drift) returned as C(in_force), by node.
    type: dict
  found:
    description:
      - What was measured, each with C(src), C(dst), C(what) and C(answers). What is right is not
        planned again.
    type: list
    elements: dict
    default: []
  budget:
    description: Seconds for all rounds together.
    type: float
seealso:
  - module: pkgctl.testbed.drift
  - module: pkgctl.testbed.measure
"""

EXAMPLES = r"""
- name: Four pairs are to be measured
  pkgctl.testbed.verification:
    meaning: choose
    words: {sample: 4, budget: 30s}
  register: chosen
"""

RETURN = r"""
pairs:
  description: The directed pairs to measure.
  returned: when choosing
  type: list
  elements: list
hosts:
  description: The nodes that take part.
  returned: when choosing
  type: list
  elements: str
budget:
  description: Seconds for all rounds together.
  returned: when choosing
  type: float
rounds:
  description: What each host measures, as options of M(pkgctl.testbed.measure), a round each.
  returned: when planning
  type: list
  elements: dict
left_out:
  description: What there is no time for, the pair and what of it.
  returned: when planning
  type: list
  elements: list
seconds:
  description: About how long the rounds take.
  returned: when planning
  type: float
links:
  description: What was asked and found of each pair, the tolerances and the verdicts.
  returned: when judging
  type: list
  elements: dict
counts:
  description: How many pairs pass, fail and are unmeasured.
  returned: when judging
  type: dict
  sample: {"pass": 8, "fail": 0, "unmeasured": 0}
"""
