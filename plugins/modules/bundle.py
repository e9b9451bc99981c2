#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) The pkgctl authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle
short_description: Put a release of K3s on a node, without a network
version_added: 0.1.0
author: The pkgctl authors (@pkgctl)
description:
  - Puts the binary and the image archives of a bundle in their places. A bundle is a folder of the
    controller with a lock that names each file's size and SHA-256; C(pkgctl cluster bundle) makes
    one.
  - The files for the node's processor are compared with the lock on the controller, and again on
    the node when they have arrived. They arrive beside their places, on the same file systems, and
    are renamed once all of them are right. Before anything is sent, the node is asked what it lacks
    and whether there is room for it.
  - The binary has its version in its name, and so have the archives. A release can be staged beside
    another that runs, and O(activate) switches a link.
  - Starts, stops and restarts nothing.
attributes:
  action:
    description:
      - Has a corresponding action plugin, which reads the bundle on the controller, asks the node
        what it lacks, and sends just that.
    support: full
  check_mode:
    description: Can run in check mode. The bundle is checked then too, and the room on the node.
    support: full
  diff_mode:
    description: Will return details on what has changed when in diff mode.
    support: full
options:
  path:
    description:
      - The bundle's folder on the controller. What is no path from the root is one from the folder
        of the playbook. Needed unless O(state=absent).
    type: path
  version:
    description: The version that the bundle has to hold. Another is refused.
    type: str
  bin_dir:
    description:
      - Where the binary is kept, as C(k3s-VERSION). The file C(.k3s-bundle.json) beside it
        remembers what was put there, so that what has not changed since is not read again.
    type: path
    default: /usr/local/bin
  link:
    description: The link to the binary in use. If it is there and no link, nothing is done.
    type: path
    default: /usr/local/bin/k3s
  links:
    description:
      - Names of further links beside O(link), which point to it. One is left out if something else
        has this name there, or a program has it elsewhere on the usual search path.
    type: list
    elements: str
    default: [kubectl, crictl, ctr]
  images_dir:
    description: Where K3s takes image archives from. Files that others have put there stay.
    type: path
    default: /var/lib/rancher/k3s/agent/images
  activate:
    description: Whether the links are to point to this release. Otherwise they stay what they are.
    type: bool
    default: false
  prune:
    description:
      - Whether to remove binaries and archives that this module put there for other versions. Those
        of the version to which the link points stay.
    type: bool
    default: false
  state:
    description:
      - V(absent) removes all that this module put there, whatever the version, and the links to it.
    type: str
    choices: [present, absent]
    default: present
  lock:
    description: What the bundle holds. The action plugin sets it.
    type: dict
  step:
    description: The part of the work that is to be done. The action plugin sets it.
    type: str
    choices: [look, prepare, install, tidy]
    default: install
"""

EXAMPLES = r"""
- name: The release is there, and in use from the next start on
  pkgctl.testbed.bundle:
    path: bundle/v1.34.4+k3s1
    version: v1.34.4+k3s1
    activate: true

- name: The next release is staged beside the one that runs
  pkgctl.testbed.bundle:
    path: bundle/v1.35.1+k3s1

- name: Older releases are gone
  pkgctl.testbed.bundle:
    path: bundle/v1.35.1+k3s1
    activate: true
    prune: true

- name: Nothing of any release is there
  pkgctl.testbed.bundle:
    state: absent
"""

RETURN = r"""
version:
  description: The version of the bundle.
  returned: success, when O(state=present)
  type: str
  sample: v1.34.4+k3s1
arch:
  description: The node's processor, as K3s names it.
  returned: success, when O(state=present)
  type: str
  sample: amd64
binary:
  description: The path of the binary.
  returned: success, when O(state=present)
  type: str
  sample: /usr/local/bin/k3s-v1.34.4+k3s1
sha256:
  description: The SHA-256 of the binary.
  returned: success, when O(state=present)
  type: str
active:
  description: Whether the link points to the binary, or would.
  returned: success, when O(state=present)
  type: bool
files:
  description: All files of the release that are there, or would be, each with its SHA-256.
  returned: success, when O(state=present)
  type: list
  elements: dict
  sample:
    - kind: binary
      path: /usr/local/bin/k3s-v1.34.4+k3s1
      sha256: 0a3b9e4c1f0e7d1b5b8a8f2f7f4f6f0d5c0b9a8e7d6c5b4a39281706f5e4d3c2
      size: 74534072
actions:
  description: What was done, or would be done, a line each.
  returned: success
  type: list
  elements: str
  sample: ["put /usr/local/bin/k3s-v1.34.4+k3s1"]
diff:
  description: The files and links before and after, as text.
  returned: success
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import bundling
from ..module_utils.answering import answer


def main() -> None:
    answer(AnsibleModule(**bundling.BUNDLE, supports_check_mode=True), bundling.bring)


if __name__ == "__main__":
    main()
