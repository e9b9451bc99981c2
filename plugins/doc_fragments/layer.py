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
        interpreter is started inside the node. Elsewhere, and with become, the module does. The
        health of virtual machines is changed on the controller.
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
  force:
    description:
      - Do it though something is lost by it, such as when memory is lowered below what is in use.
    type: bool
    default: false
  lease:
    description:
      - How long the layer stays while nobody renews it, such as V(10m). A layer that ends by itself
        needs none.
      - V(none) keeps it until it is taken away.
    type: str
    default: 10m
  timeline:
    description:
      - The name of a timeline. If it is given, nothing is changed now. The node's agent is told to
        set the layer O(start) after the timeline begins, and to take it away after O(duration).
      - Module M(pkgctl.testbed.timeline) begins a timeline.
    type: str
  start:
    description:
      - The time from the timeline's beginning to the onset, such as V(2s). At once if left out.
      - With O(when) it counts from when the condition comes true.
      - Needs O(timeline).
    type: str
  duration:
    description:
      - The time from the onset to the end, such as V(30s). Without it the layer stays until it is
        taken away, or until its O(lease) runs out.
      - Needs O(timeline).
    type: str
  ramp:
    description:
      - How the layer comes to its values. V(5s) is steadily, with an update each 100 ms. V(5s/4) is
        in four steps.
      - Needs O(timeline).
    type: str
  repeat:
    description:
      - How often the layer sets in, and how long from onset to onset. V(3/20s) is three times, one
        each 20 s. V(20s) is without end.
      - Needs O(timeline) and O(duration).
    type: str
  flap:
    description:
      - How long the layer is on and off by turns, such as V(2s/1s). With V(2s/1s/random) the spells
        are drawn from O(seed), and these are their means.
      - Needs O(timeline).
    type: str
  trace:
    description:
      - What links follow. A list of pairs, each the seconds after the onset and a mapping of
        C(rate) (bits a second), C(delay) and C(jitter) (seconds), C(loss) and others (parts).
      - The module M(pkgctl.testbed.perturbation) makes it from a file.
      - Needs O(timeline).
    type: raw
  when:
    description:
      - A condition with which the layer sets in. One of V(requests > 1000), V(node edge-2 ready),
        V(node edge-2 down), V(job web ready) and V(job web finished).
      - Needs O(timeline).
    type: str
  after:
    description:
      - Another layer, after whose end this one sets in, such as V(slow) or V(slow + 5s). If that
        layer has no end, its onset counts.
      - Needs O(timeline).
    type: str
  seed:
    description: From what random spells are drawn. Follows from the layer's name if left out.
    type: int
"""
