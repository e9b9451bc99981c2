# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters apart from a testbed in which its experiments have a namespace, until that is gone.

The cluster on a testbed's own nodes goes with them. Any other keeps what an experiment that was
killed has there, so a testbed remembers where that is, and asks for its end when it goes itself.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

from pkgctl.errors import PkgctlError
from pkgctl.local.paths import Paths

_FILE = "clusters.json"
_Place = tuple[str, str | None]


def remember(paths: Paths, kubeconfig: Path, context: str | None) -> None:
    """Remember a cluster, before anything is made there."""
    _write(paths, [*_known(paths), (str(kubeconfig.absolute()), context)])


def forget(paths: Paths, kubeconfig: Path, context: str | None) -> None:
    """Forget a cluster, after all there is gone."""
    _write(paths, [each for each in _known(paths) if each != (str(kubeconfig.absolute()), context)])


def clear(paths: Paths, warn: Callable[[str], None]) -> None:
    """Have what a testbed's experiments left in other clusters removed there.

    Args:
        paths: the testbed.
        warn: is told of each cluster that cannot be asked, which is then left as it is.
    """
    for kubeconfig, context in _known(paths):
        from pkgctl.cluster import owning
        from pkgctl.cluster.client import connect

        try:
            with contextlib.closing(connect(Path(kubeconfig), context)) as api:
                owning.leave(api, paths.name)
        except PkgctlError as error:
            warn(f"what experiments left in the cluster of {kubeconfig} stays there: {error}")


def _known(paths: Paths) -> list[_Place]:
    try:
        found = json.loads((paths.run / _FILE).read_text())
    except (OSError, ValueError):
        return []
    return [(str(kubeconfig), context) for kubeconfig, context in found]


def _write(paths: Paths, known: list[_Place]) -> None:
    path = paths.run / _FILE
    if not known:
        path.unlink(missing_ok=True)
        return
    # `pkgctl down` only reads, and is to begin at once.
    from pkgctl.cluster.installing import write_private

    write_private(path, json.dumps(list(dict.fromkeys(known))))
