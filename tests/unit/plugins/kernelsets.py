# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's sets of pairs, kept by a test, that take our messages as pyroute2 reads them."""

from __future__ import annotations

import errno
from typing import Any

from ansible_collections.pkgctl.testbed.plugins.module_utils import nftables
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import KernelError
from ansible_collections.pkgctl.testbed.plugins.module_utils.netlink import attribute, attributes

from .witness import plain, read_filter

NEW, DELETE = 12, 14


class Kernel:
    """A socket behind which there are sets of pairs, in the table of the delay line."""

    def __init__(self) -> None:
        """Have no table yet."""
        self.sets: dict[str, set[bytes]] | None = None
        self.transactions: list[int] = []
        self.dumps = 0
        self.marker = b"\0\x07pkgctl\0"

    def transaction(self, batch: list[Any]) -> None:
        """Do all of a batch, or nothing."""
        changed = {name: set(keys) for name, keys in (self.sets or {}).items()}
        for message in batch[1:-1]:
            self._do(message, changed)
        self.sets = changed
        self.transactions.append(len(batch) - 2)

    def _do(self, message: Any, sets: dict[str, set[bytes]]) -> None:
        kind = message.kind & 0xFF
        if kind == 9:
            sets[attributes(message.body, 4)[2].rstrip(b"\0").decode()] = set()
        if kind not in (NEW, DELETE):
            return
        told = plain(read_filter(message))
        for element in told["NFTA_SET_ELEM_LIST_ELEMENTS"]:
            key = element["NFTA_SET_ELEM_KEY"]["NFTA_DATA_VALUE"]
            own = sets[told["NFTA_SET_ELEM_LIST_SET"]]
            if (key in own) == (kind == NEW):
                raise KernelError(message.what, errno.EEXIST if kind == NEW else errno.ENOENT)
            own ^= {key}

    def get(self, message: Any) -> bytes:
        """Return the table."""
        if self.sets is None:
            raise KernelError(message.what, errno.ENOENT)
        return bytes(4) + attribute(6, self.marker)

    def dump(self, _: int, body: bytes, *, what: str) -> list[bytes]:
        """Return the elements of one set."""
        self.dumps += 1
        assert self.sets is not None
        name = attributes(body, 4)[2].rstrip(b"\0").decode()
        return [message.body for message in nftables.add_elements("", name, self.sets[name])]
