# SPDX-License-Identifier: GPL-3.0-or-later
"""What every testbed must do, whatever its nodes are made of; witnessed by the system's tools."""
