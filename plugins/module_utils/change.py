# SPDX-License-Identifier: GPL-3.0-or-later
"""What a change did, or would do: the one result of links, quotas and disks."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Change:
    """The outcome of bringing a node to what it should be.

    Attributes:
        changed: whether anything a user could measure differs.
        before: the state before, as text, one fact a line.
        after: the state after, likewise.
        actions: what was done (or would be), a line each.
    """

    changed: bool
    before: str
    after: str
    actions: list[str] = field(default_factory=list)
