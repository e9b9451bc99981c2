#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) The pkgctl authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The action plugin of this name does the work, on the controller; this file documents it.

from __future__ import annotations

DOCUMENTATION = r"""
module: perturbation
short_description: Turn the words of a perturbation into what each node has to do
version_added: 0.1.0
author: The pkgctl authors (@pkgctl)
description:
  - Reads words such as C(src), C(bw) and C(delay), judges them, and resolves them against the nodes
    of the inventory. It runs on the controller and changes nothing.
  - Files that C(distribution) or C(trace) name are read here, seen from the current folder or from
    that of the playbook. The nodes are told what is in them.
  - The words are those given with C(-e), unless O(words) is set. Variables that begin with
    C(ansible_) or C(pkgctl_) are no words. A word that is not known is an error.
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
    description: Whether the words tell what to disturb, or what to heal.
    type: str
    choices: [disturb, heal]
    default: disturb
  words:
    description: The words, instead of those given with C(-e).
    type: dict
seealso:
  - module: pkgctl.testbed.layer
"""

EXAMPLES = r"""
- name: Every word has a meaning on this testbed
  pkgctl.testbed.perturbation:
  register: perturbation

- name: The uplink of a site is slow
  pkgctl.testbed.perturbation:
    words: {name: slow, src: {site: edge-a}, dst: {site: cloud}, direction: to, bw: 5mbit}
  register: slow
"""

RETURN = r"""
layer:
  description: The name of the layer.
  returned: when disturbing
  type: str
  sample: perturb
layers:
  description: The names of the layers to heal. V(*) is every layer but the testbed's own.
  returned: when healing
  type: list
  elements: str
  sample: ["*"]
hosts:
  description: The nodes that take part.
  returned: success
  type: list
  elements: str
plan:
  description: What each of them has to do, as options of M(pkgctl.testbed.layer).
  returned: when disturbing
  type: dict
  sample: {edge-2: {quota: {cpu: "0.2"}}}
force:
  description: Whether it is to be done though something is lost by it.
  returned: when disturbing
  type: bool
lease:
  description: How long the layer stays while nobody renews it, as it was given.
  returned: when disturbing
  type: str
timeline:
  description: The timeline on which the layer is to be armed; none if it is to be set now.
  returned: when disturbing
  type: str
begins:
  description: Whether the timeline is to begin once all nodes are armed.
  returned: when disturbing
  type: bool
times:
  description: When the layer is in force, as options of M(pkgctl.testbed.layer).
  returned: when disturbing
  type: dict
  sample: {start: 2s, duration: 30s}
"""
