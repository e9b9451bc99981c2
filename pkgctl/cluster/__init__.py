# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubernetes: the door to its API, what is known of a cluster, and a scheduler for pods."""
