# SPDX-License-Identifier: GPL-3.0-or-later
"""Schedulers and provisioning models: pure decisions about where jobs run.

Nothing here reads a clock, a file or a network, so the same classes serve real processes, pods
and simulations. ``registry.scheduler(name)`` and ``registry.provisioner(name)`` make them.
"""
