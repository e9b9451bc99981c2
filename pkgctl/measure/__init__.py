# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers from what a run recorded: pure functions from rows to metrics with intervals.

Importing this package costs nothing; its modules import polars, so the command line
imports them only when a command needs them.
"""
