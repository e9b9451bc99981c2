# SPDX-License-Identifier: GPL-3.0-or-later
"""The testbed of a stack: ``pulumi up``; see docs/pulumi.md."""

from __future__ import annotations

import signal
import sys

import pulumi

from pkgctl.errors import PkgctlError
from testbed.components import Testbed, TestbedArgs
from testbed.given import gather

# Tells Pulumi that the user has been told why; it says that something was unhandled else.
TOLD = 32


def main() -> None:
    """Declare the testbed and export what others need of it."""
    # Where a resource fails Pulumi interrupts the program, which need not tell where it was.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        given = gather(pulumi.Config().get)
        testbed = Testbed(given.settings.testbed, TestbedArgs(given))
    except (PkgctlError, pulumi.RunError) as error:
        pulumi.log.error(str(error))
        sys.exit(TOLD)
    for name, value in testbed.outputs.items():
        pulumi.export(name, value)


main()
