#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) The pkgctl authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_reset
short_description: Take K3s off a node
version_added: 0.1.0
author: The pkgctl authors (@pkgctl)
description:
  - Ends K3s and its containers, and removes what they left. That is mounts, network namespaces,
    links, control groups of pods, rules of iptables, files and folders. The service itself is taken
    away beforehand, with M(pkgctl.testbed.unit).
  - What is to go is found by looking, so a second call changes nothing. Where K3s is its own
    settings say, and the options where these are gone.
  - A folder of it that is a disk of its own, or a link, is emptied and stays.
  - Nothing below another mount is removed; if something is still mounted it fails, and says what.
attributes:
  check_mode:
    description: Can run in check mode.
    support: full
  diff_mode:
    description: Will return details on what has changed when in diff mode.
    support: none
options:
  bin_dir:
    description: Where the program is kept by its version.
    type: path
    default: /usr/local/bin
  cgroup:
    description: The control group below which pods ran; the root if empty.
    type: str
    default: ''
  data_dir:
    description: Where K3s kept its state and its images.
    type: path
    default: /var/lib/rancher/k3s
  kubelet_dir:
    description: Where pods had their volumes.
    type: path
    default: /var/lib/kubelet
  link:
    description: The path by which the program is called.
    type: path
    default: /usr/local/bin/k3s
seealso:
  - module: pkgctl.testbed.unit
  - module: pkgctl.testbed.bundle
"""

EXAMPLES = r"""
- name: Nothing of K3s is left
  pkgctl.testbed.k3s_reset:
"""

RETURN = r"""
actions:
  description: What went, a line each.
  returned: success
  type: list
  elements: str
  sample: ["unmount /run/k3s/containerd/x", "remove the link cni0"]
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import k3sremoval
from ..module_utils.answering import answer


def main() -> None:
    answer(AnsibleModule(**k3sremoval.RESET, supports_check_mode=True), k3sremoval.remove)


if __name__ == "__main__":
    main()
