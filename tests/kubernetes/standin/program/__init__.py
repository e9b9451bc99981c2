# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in for K3s. It is no K3s: it keeps K3s's contract with whoever installs it.

It runs on nodes, with the standard library alone, out of the one file that ``pack`` makes.
"""
