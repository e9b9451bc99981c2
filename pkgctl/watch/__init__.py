# SPDX-License-Identifier: GPL-3.0-or-later
"""What a testbed looks like while it runs, and how that is shown.

Nothing here knows where the figures come from: ``pkgctl.local`` reads them on this machine.
"""
