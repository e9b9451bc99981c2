# SPDX-License-Identifier: GPL-3.0-or-later
"""Our netlink messages as pyroute2 reads them: a witness that knows nothing of our encoder."""

from __future__ import annotations

import struct
from typing import Any

from pyroute2.netlink.nfnetlink.nftsocket import AsyncNFTSocket

from ansible_collections.pkgctl.testbed.plugins.module_utils import netlink

SEQUENCE = 7


def framed(message: netlink.Message) -> bytes:
    """Return a message as it goes through a socket."""
    flags = message.flags | netlink.NLM_F_REQUEST
    header = struct.pack("=IHHII", 16 + len(message.body), message.kind, flags, SEQUENCE, 0)
    return header + message.body


def read(message: netlink.Message, decoder: Any) -> Any:
    """Return a message decoded; decoder is one of pyroute2's message classes."""
    decoded = decoder(framed(message))
    decoded.decode()
    return decoded


def read_filter(message: netlink.Message) -> Any:
    """Return a message of nftables decoded."""
    return read(message, AsyncNFTSocket.policy[message.kind & 0xFF])


def plain(part: Any) -> Any:
    """Return the attributes of a decoded message as plain dictionaries, lists kept in order."""
    if isinstance(part, list):
        return [plain(each) for each in part]
    if isinstance(part, dict) and "attrs" in part:
        return {attribute[0]: plain(attribute[1]) for attribute in part["attrs"]}
    return part


def written(encoder: Any, fields: dict[str, Any], attributes: list[tuple[str, Any]]) -> bytes:
    """Return the body of a message that pyroute2 makes by itself."""
    made = encoder()
    for key, value in fields.items():
        made[key] = value
    made["attrs"] = attributes
    made.encode()
    return bytes(made.data[16:])
