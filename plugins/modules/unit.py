#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) The pkgctl authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: unit
short_description: Keep a service running on a node
version_added: 0.1.0
author: The pkgctl authors (@pkgctl)
description:
  - Declares a long-running service and has it run, now and whenever its node comes up. It is
    started again when it ends. Where systemd runs, systemd keeps it; on other nodes the node's
    agent does, in the same way.
  - The service is started again if its declaration differs from the one it was started from, and
    otherwise only if it is asked for.
  - On nodes of a local testbed a service is not counted against what its node may use. It stands
    still while the node is paused, and ends when the node is stopped or crashes. It runs again once
    the node does.
  - Arguments and variables are not for secrets; those belong into O(environment_files).
attributes:
  action:
    description:
      - Has a corresponding action plugin, which does the work inside local nodes, and has the agent
        of a virtual machine do it there.
    support: full
  check_mode:
    description: Can run in check mode.
    support: full
  diff_mode:
    description: Will return details on what has changed when in diff mode.
    support: full
options:
  name:
    description: The name of the service, without C(.service).
    type: str
    required: true
  command:
    description:
      - The program and its arguments. The program is a path from the root, or the name of one that
        is found where programs are.
      - Needed unless the service is to be stopped or absent.
    type: list
    elements: str
  environment:
    description: Variables of the service. Their values are not shown.
    type: dict
    default: {}
  environment_files:
    description:
      - Files of the node with more variables, a C(NAME=value) a line, which take precedence. They
        are read at each start. One that is not there is passed over. Its owner may be the only one
        who can read it.
    type: list
    elements: str
    default: []
  pre:
    description: Commands that run before each start. Their failure does not matter.
    type: list
    elements: list
    default: []
  notify:
    description: Whether the service says by C(sd_notify) when it is ready.
    type: bool
    default: false
  restart_seconds:
    description: How many seconds after its end the service is started again.
    type: float
    default: 5.0
  kill:
    description:
      - What ends when the service is stopped. V(process) is its main process alone, as services do
        it whose children (containers, for example) have to go on. V(group) is all that it has
        started.
    type: str
    choices: [group, process]
    default: group
  grace:
    description: How many seconds the service may take to end before it is killed.
    type: float
    default: 30.0
  limits:
    description: What the service may use, where that is not the most that the kernel lets anyone.
    type: dict
    default: {}
    suboptions:
      nofile:
        description: How many files it may have open.
        type: int
  fingerprint:
    description:
      - What else the service depends on, as one line, such as the digest of its configuration.
        Another one is another declaration.
    type: str
    default: ""
  state:
    description:
      - V(started) has the service run, V(restarted) has it start anew in any case, V(stopped) has
        it end and not come up with the node. V(absent) removes it with all that it has started.
    type: str
    choices: [started, restarted, stopped, absent]
    default: started
  wait:
    description:
      - How many seconds to wait until a service that is to run is ready. If it is not, the task
        fails with the last lines of its log. Nothing is waited for with V(0).
    type: float
    default: 0.0
seealso:
  - module: pkgctl.testbed.machine
  - module: pkgctl.testbed.health
"""

EXAMPLES = r"""
- name: The server runs, and has come up
  pkgctl.testbed.unit:
    name: k3s
    command: [/usr/local/bin/k3s, server]
    pre: [[modprobe, br_netfilter], [modprobe, overlay]]
    environment_files: [/etc/rancher/k3s/k3s.env]
    notify: true
    kill: process
    fingerprint: "{{ k3s_settings | to_json | hash('sha256') }}"
    wait: 300

- name: There is no such service
  pkgctl.testbed.unit:
    name: k3s
    state: absent
"""

RETURN = r"""
actions:
  description: What was done, or would be done, a line each.
  returned: success
  type: list
  elements: str
  sample: ["declare k3s", "restart k3s"]
diff:
  description: The declaration before and after, in systemd's words, without values of variables.
  returned: success
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import upkeep
from ..module_utils.answering import answer


def main() -> None:
    answer(AnsibleModule(**upkeep.UNIT, supports_check_mode=True), upkeep.keep)


if __name__ == "__main__":
    main()
