# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests on the real kernel, as root."""
