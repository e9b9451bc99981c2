# SPDX-License-Identifier: GPL-3.0-or-later
"""Testbeds of virtual machines, seen from the controller: their folder, libvirt, and SSH."""
