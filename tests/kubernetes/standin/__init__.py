# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands in for K3s in tests: its contract, on top of Kubernetes' own programs."""
