# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests on virtual machines, with a real libvirtd, QEMU and Pulumi."""
