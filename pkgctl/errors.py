# SPDX-License-Identifier: GPL-3.0-or-later
"""Every error that pkgctl shows to its user, with the code that ends the program.

PkgctlError               1  something failed that the user can understand
├── SpecError             2  an input file or an argument asks for what cannot be
├── ResultsError          2  a folder holds no results that can be read
├── MissingCapability     3  this machine lacks something that was asked for
├── VerificationFailed    4  what was measured is not what was asked for
├── TestbedError          1  a testbed could not be made, changed, reached or removed
│   └── NodeLostError     1  a node is not running, so nothing can start there
├── ClusterError          1  the Kubernetes API did not answer, or something there failed
│   └── Refused           1  it answered that it will not
└── PlayError             1  a playbook failed on some hosts
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import ClassVar

_MOST_NAMES = 12  # listed in one hint; more would not be read
_LONGEST = 500  # characters of a message; what a file holds may be much longer


class PkgctlError(Exception):
    """Something failed that the user can understand, in one line."""

    exit_code: ClassVar[int] = 1


class SpecError(PkgctlError):
    """An input file or an argument asks for what cannot be.

    Attributes:
        file: the file as the user named it, if it is about one.
        line: its line, counted from 1, if known.
        key: the path of the key at fault, such as ``links[0].rate``, if known.
    """

    exit_code: ClassVar[int] = 2

    def __init__(
        self, message: str, *, file: object = None, line: int | None = None, key: str | None = None
    ) -> None:
        """Put the place before the message: ``three.yaml:12: links[0].rate: …``."""
        self.file, self.line, self.key = file, line, key
        if len(message) > _LONGEST:
            message = f"{message[: _LONGEST // 2]} … {message[-_LONGEST // 2 :]}"
        place = f"{file}:{line}" if file and line else str(file or "")
        super().__init__(": ".join(part for part in (place, key, message) if part))


class ResultsError(PkgctlError):
    """A folder holds no results that can be read."""

    exit_code: ClassVar[int] = 2


class MissingCapability(PkgctlError):  # noqa: N818 - it names what is missing, in one word
    """This machine lacks something that was asked for."""

    exit_code: ClassVar[int] = 3


class VerificationFailed(PkgctlError):  # noqa: N818 - a verdict rather than a mistake
    """What was measured is not what was asked for."""

    exit_code: ClassVar[int] = 4


class TestbedError(PkgctlError):
    """A testbed could not be made, changed, reached or removed."""

    __test__ = False  # pytest would take the name for a test class


class NodeLostError(TestbedError):
    """A node is not running, so nothing can start there."""


class ClusterError(PkgctlError):
    """The Kubernetes API did not answer, or something there failed."""


class Refused(ClusterError):  # noqa: N818 - the API's answer rather than a mistake
    """The Kubernetes API answered that it will not.

    Attributes:
        status: the code of HTTP: 403 not allowed, 404 not there, 409 in conflict, 410 too old …
    """

    def __init__(self, message: str, *, status: int) -> None:
        """Keep the API's words, and the code."""
        self.status = status
        super().__init__(message)


class PlayError(PkgctlError):
    """A playbook failed on some hosts.

    Attributes:
        playbook: its file name.
        failures: each host's own words.
    """

    def __init__(self, playbook: str, failures: Mapping[str, str]) -> None:
        """Join what the hosts said into one line."""
        self.playbook, self.failures = playbook, dict(failures)
        details = "; ".join(f"{host}: {text}" for host, text in sorted(self.failures.items()))
        hosts = "1 host" if len(self.failures) == 1 else f"{len(self.failures)} hosts"
        super().__init__(f"{playbook} failed on {hosts}. {details}")


def nearest(name: object, known: Collection[str]) -> str:
    """Return the hint that ends an error about an unknown name.

    The one known name that was most likely meant, else the known names.
    """
    text = str(name)
    folded = {each.lower(): each for each in known}
    close = difflib.get_close_matches(text.lower(), folded, n=1, cutoff=0.6)
    if close:
        return f"did you mean {folded[close[0]]}?"
    listed = sorted(known)[:_MOST_NAMES]
    more = len(known) - len(listed)
    return f"known are {', '.join(listed) or 'none'}{f' and {more} more' if more else ''}"
