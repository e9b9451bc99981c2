# SPDX-License-Identifier: GPL-3.0-or-later
"""A testbed that is up and whose nodes are a cluster, for experiments that use both as they are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pkgctl.cluster import elsewhere, installing, nodes, owning, runtime
from pkgctl.cluster.backend import PodBackend, Target
from pkgctl.cluster.client import Api, connect
from pkgctl.errors import ClusterError
from pkgctl.local.paths import Paths

CHECK_SECONDS = 10.0


@dataclass(frozen=True)
class Existing:
    """Where to find the two.

    Attributes:
        paths: the testbed.
        kubeconfig: the way to the cluster; None is the one that was installed on the testbed.
        context: which of its contexts.
        image: what pods are made of, if it is not the image that was put on the nodes.
    """

    paths: Paths
    kubeconfig: Path | None = None
    context: str | None = None
    image: str | None = None

    def check(self) -> None:
        """Refuse a cluster that does not answer, or is not what the testbed is.

        Raises:
            TestbedError: if the testbed is not up.
            SpecError: if the kubeconfig is none.
            ClusterError: with what is wrong.
        """
        members = installing.members(self.paths)
        found = self._api.get("/api/v1/nodes", within=CHECK_SECONDS)["items"]
        check_nodes([*members.servers, *members.agents], found, self._api.server)

    def backend(self, paths: Paths, *, renew: bool = False) -> PodBackend:
        """Return what runs jobs there."""
        if self.kubeconfig is not None:
            elsewhere.remember(paths, self.kubeconfig, self.context)
        target = Target(self._api, runtime.runtime(self.image))
        return PodBackend(paths, target, renew=renew)

    def leave(self) -> None:
        """Let nothing of the experiments there stay in the cluster, as far as that is possible."""
        with contextlib.suppress(ClusterError):
            owning.leave(self._api, self.paths.name)
            if self.kubeconfig is not None:
                elsewhere.forget(self.paths, self.kubeconfig, self.context)

    @cached_property
    def _api(self) -> Api:
        file = self.kubeconfig
        if file is None:
            file = installing.kubeconfig(self.paths)
        return connect(file, self.context, agent="pkgctl-experiment")


def check_nodes(wanted: Iterable[str], found: Iterable[Mapping[str, Any]], server: str) -> None:
    """Refuse a cluster that lacks nodes of the testbed, or whose nodes are not ready.

    Raises:
        ClusterError: with the nodes.
    """
    ready = {each["metadata"]["name"]: nodes.read(each).ready for each in found}
    if missing := [name for name in wanted if name not in ready]:
        raise ClusterError(
            f"the cluster at {server} has no node {', '.join(missing)}; its nodes must be the "
            "testbed's, by their names"
        )
    if idle := [name for name in wanted if not ready[name]]:
        raise ClusterError(f"the cluster's nodes are not ready: {', '.join(idle)}")
