#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Hands the controllers of version 2 down to the control group of its name, where kubelet wants all that the kernel has.
set -euo pipefail

folder=/sys/fs/cgroup
[ -f "$folder/cgroup.controllers" ] || exit 0
for part in $(echo "$0" | tr / ' '); do
    # One by one, for any may be refused.
    for each in $(cat "$folder/cgroup.controllers"); do
        echo "+$each" >"$folder/cgroup.subtree_control" || true
    done
    folder=$folder/$part
done
