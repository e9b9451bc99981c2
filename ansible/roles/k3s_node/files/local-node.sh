#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Prepares a node that shares its kernel with others for kubelet. Its name is the control group below which pods run.
set -euo pipefail

# Kubelet sets these for the whole machine. With files in their place it finds them set already.
for each in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1; do
    place=/proc/sys/${each%=*}
    if [ "$(cat "$place")" != "${each#*=}" ]; then
        file=/run/k3s/tunables/$(echo "${each%=*}" | tr / .)
        mkdir -p "${file%/*}"
        echo "${each#*=}" >"$file"
        mount --bind "$file" "$place"
    fi
done

# It looks for the control group in hierarchies of version 1 in which nodes have none.
[ ! -f /sys/fs/cgroup/cgroup.controllers ] || exit 0
for each in /sys/fs/cgroup/*/cgroup.procs; do
    folder=${each%/*}
    for part in $(echo "$0" | tr / ' '); do
        above=$folder
        folder=$folder/$part
        mkdir -p "$folder"
        for key in cpuset.cpus cpuset.mems; do
            if [ -f "$folder/$key" ] && [ -z "$(cat "$folder/$key")" ]; then
                cat "$above/$key" >"$folder/$key"
            fi
        done
    done
done
