# SPDX-License-Identifier: GPL-3.0-or-later
"""What all of the program's own resources have in common.

Stacks refer to a provider by its module and name, so these stay what they are.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping
from typing import Any, ClassVar

import pulumi
from pulumi.dynamic import ConfigureRequest, DiffResult, ResourceProvider

from pkgctl.errors import PkgctlError

Props = dict[str, Any]


class Provider(ResourceProvider):
    """A provider of one kind of resource.

    Attributes:
        compared: the inputs whose change is an update.
        replaced: the inputs whose change is a new resource.
    """

    serialize_as_secret_always = False
    compared: ClassVar[tuple[str, ...]] = ()
    replaced: ClassVar[tuple[str, ...]] = ()

    def configure(self, req: ConfigureRequest) -> None:
        """Let failures be told in one line."""
        _tell_in_one_line()

    def diff(self, _id: str, _olds: Props, _news: Props) -> DiffResult:
        """Return what is different of that which counts."""
        replaces = [key for key in self.replaced if _olds.get(key) != _news.get(key)]
        changes = [key for key in self.compared if _olds.get(key) != _news.get(key)]
        return DiffResult(
            changes=bool(replaces or changes), replaces=replaces, delete_before_replace=True
        )


def say(text: str) -> None:
    """Tell who runs the program how far it is."""
    _connect()
    pulumi.log.info(text)


def warn(text: str) -> None:
    """Tell who runs the program what is not as one would wish."""
    _connect()
    pulumi.log.warn(text)


def _connect() -> None:
    """Send what is said to the engine, whose address is the first argument of a provider.

    Pulumi keeps it for each thread by itself.
    """
    if len(sys.argv) > 1 and pulumi.runtime.settings.SETTINGS.engine is None:
        known = pulumi.runtime.settings.SETTINGS
        pulumi.runtime.configure(
            pulumi.runtime.Settings(project=known.project, stack=known.stack, engine=sys.argv[1])
        )


class _Report:
    """Stands for the module ``traceback`` where Pulumi prints why a resource failed."""

    @staticmethod
    def format_exc() -> str:
        """Return an expected failure in one line, any other with where it happened."""
        error = sys.exc_info()[1]
        return str(error) if isinstance(error, PkgctlError) else traceback.format_exc()


def _tell_in_one_line() -> None:
    """Spare users the traceback that Pulumi puts around every failure of a provider.

    It has no setting for that. Elsewhere than in its process of providers nothing is touched.
    """
    main: Any = sys.modules["__main__"]
    if hasattr(main, "DynamicResourceProviderServicer"):
        main.traceback = _Report


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the keys that either lacks, or whose values differ."""
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
