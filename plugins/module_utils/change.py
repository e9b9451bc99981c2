# SPDX-License-Identifier: GPL-3.0-or-later
"""What a change did, or would do: the one result of links, quotas and disks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

# What is long to write, and often not wanted, is given as a function that writes it.
Text = str | Callable[[], str]


class Change:
    """The outcome of bringing a node to what it should be.

    Attributes:
        changed: whether anything a user could measure differs.
        actions: what was done (or would be), a line each.
    """

    def __init__(
        self, changed: bool, before: Text, after: Text, actions: Sequence[str] = ()
    ) -> None:
        """Keep the state before and after, as text, one fact a line."""
        self.changed = changed
        self.actions = list(actions)
        self._before, self._after = before, after

    @property
    def before(self) -> str:
        """The state before, as text, one fact a line."""
        return self._before if isinstance(self._before, str) else self._before()

    @property
    def after(self) -> str:
        """The state after, likewise."""
        return self._after if isinstance(self._after, str) else self._after()
