# SPDX-License-Identifier: GPL-3.0-or-later
"""The local testbed: nodes that are namespaces, control groups and loop disks of this machine."""
