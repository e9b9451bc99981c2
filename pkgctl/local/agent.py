# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection to a testbed's agent, or to whoever answers for the agents of its nodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pkgctl.errors import TestbedError
from pkgctl.local.paths import Paths
from pkgctl.nodeside import errors as node_errors


class AgentClient:
    """A connection to the agent of one testbed; not to be shared by threads."""

    def __init__(self, paths: Paths) -> None:
        """Connect to the agent of a testbed that is up, starting it if it died.

        Raises:
            TestbedError: if the testbed is not up, or its agent does not answer.
        """
        try:
            self._client = paths.reach().connect()
        except (node_errors.DisturbanceError, OSError) as error:
            raise TestbedError(f"the agent of testbed {paths.name!r}: {error}") from error

    def __enter__(self) -> AgentClient:
        """Return the client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up."""
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def fileno(self) -> int:
        """Return the connection's descriptor, to wait on."""
        return self._client.fileno()

    def call(self, op: str, **fields: Any) -> dict[str, Any]:
        """Return the agent's answer to a request.

        Raises:
            TestbedError: with the agent's own words, if it refuses.
        """
        try:
            answer: dict[str, Any] = self._client.call(op, **fields)
        except node_errors.AgentError as error:
            raise TestbedError(str(error)) from error
        return answer

    def stream(self, op: str, **fields: Any) -> Iterator[dict[str, Any]]:
        """Yield what the agent sends after a request, until the connection closes."""
        try:
            yield from self._client.stream(op, **fields)
        except node_errors.AgentError as error:
            raise TestbedError(str(error)) from error
