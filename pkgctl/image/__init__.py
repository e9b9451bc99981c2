# SPDX-License-Identifier: GPL-3.0-or-later
"""The base image of virtual machines: how it is built, kept, checked and found.

An image is a disk with one ext4 file system, and beside it the kernel and the initial archive that
boot it without a boot loader. Its name is the fingerprint of its recipe, so an unchanged recipe is
built once. A user's own disk image is as good where it boots by itself.
"""

from pkgctl.image.store import Image, find

__all__ = ["Image", "find"]
