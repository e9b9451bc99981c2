# SPDX-License-Identifier: GPL-3.0-or-later
"""Which errors of the API pass, and for how long one that says that we may not is waited out.

A server that has just started knows neither accounts nor their rights, and refuses everybody what
it allows a moment later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from http import HTTPStatus

from pkgctl.errors import ClusterError, Refused

STARTING_SECONDS = 15.0
BARRED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


def is_ailing(error: ClusterError) -> bool:
    """Whether it says that the server cannot at the moment, whoever asks for whatever."""
    return isinstance(error, Refused) and (
        error.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        or error.status == HTTPStatus.TOO_MANY_REQUESTS
    )


def may_pass(error: ClusterError) -> bool:
    """Whether the same request may be carried out if it is sent again."""
    return not isinstance(error, Refused) or error.status in BARRED or is_ailing(error)


class Patience:
    """How long somebody goes on who is told that they may not."""

    def __init__(
        self,
        seconds: float = STARTING_SECONDS,
        *,
        statuses: Collection[int] = BARRED,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin to count with the first error of these statuses."""
        self._seconds, self._statuses, self._now = seconds, statuses, now
        self._since: float | None = None

    def runs_out(self, error: ClusterError) -> bool:
        """Take in an error; return whether none but such have come for all the time."""
        if not isinstance(error, Refused) or error.status not in self._statuses:
            self._since = None
            return False
        if self._since is None:
            self._since = self._now()
        return self._now() - self._since >= self._seconds
