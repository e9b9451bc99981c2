# SPDX-License-Identifier: GPL-3.0-or-later
"""An edge-cloud laboratory: declare a network, disturb it, schedule on it, measure it."""

__version__ = "0.1.0"
