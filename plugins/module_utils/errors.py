# SPDX-License-Identifier: GPL-3.0-or-later
"""Every failure that node-side code expects.

DisturbanceError
├── NodeError         this host is not a node, or its description cannot be read
├── KernelError       the kernel refused a request; carries errno
├── CapabilityError   the kernel or the host lacks something; says what
├── AgentError        the node agent is out of reach, or refused a request
└── ApiError          the Kubernetes API is out of reach, or refused a request
"""

from __future__ import annotations

import os


class DisturbanceError(Exception):
    """A failure that the caller can explain in one line."""


class NodeError(DisturbanceError):
    """This host is not a node, or its description cannot be read."""


class CapabilityError(DisturbanceError):
    """The kernel or the host lacks something that was asked for."""


class AgentError(DisturbanceError):
    """The node agent is out of reach, or refused a request."""


class ApiError(DisturbanceError):
    """The Kubernetes API is out of reach, or refused a request."""


class KernelError(DisturbanceError):
    """The kernel refused a request.

    Attributes:
        errno: the kernel's error number.
    """

    def __init__(self, what: str, errno: int, detail: str = "") -> None:
        """Name the request, the errno and the kernel's own words, if it gave any."""
        self.errno = errno
        super().__init__(f"{what}: {detail or os.strerror(errno)}")
