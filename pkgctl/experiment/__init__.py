# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole experiment: planned, run on a testbed, measured, and written down as it goes."""
