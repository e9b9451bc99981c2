# -*- coding: utf-8 -*-
# Copyright: (c) The pkgctl authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """What all modules that set a layer share."""

    DOCUMENTATION = r"""
attributes:
  action:
    description:
      - Has a corresponding action plugin. On a node of this machine it does the work, and no
        interpreter is started inside the node. Elsewhere, and with become, the module does.
    support: full
  check_mode:
    description: Can run in check mode and say truthfully what would change, without changing it.
    support: full
  diff_mode:
    description: Says in diff mode what has changed, or what would change in check mode.
    support: full
options:
  layer:
    description:
      - The name of the layer. Layers lie on top of one another, and each can be taken away by
        itself.
      - Setting a layer again changes what the options name. The rest of the layer stays as it is.
      - With O(state=absent), V(*) stands for every layer but the testbed's own.
    type: str
    default: perturb
  state:
    description: Whether the layer should be there.
    type: str
    choices: [present, absent]
    default: present
  timeline:
    description:
      - The name of a timeline. If it is given, nothing is changed now. The node's agent is told to
        set the layer O(start) after the timeline begins, and to take it away after O(duration).
      - Module M(pkgctl.testbed.timeline) begins a timeline.
    type: str
  start:
    description:
      - The time from the timeline's beginning to the onset, such as V(2s). At once if left out.
      - Needs O(timeline).
    type: str
  duration:
    description:
      - The time from the onset to the end, such as V(30s). Without it the layer stays until it is
        taken away.
      - Needs O(timeline).
    type: str
"""
