# SPDX-License-Identifier: GPL-3.0-or-later
"""When work arrives and what it asks for: made-up processes and recorded traces."""
