# SPDX-License-Identifier: GPL-3.0-or-later
"""The one door to the code that also runs on the nodes.

``from pkgctl.nodeside import units`` gives the module of the collection ``pkgctl.testbed``; it is
imported at the first use of its name, so that a command pays only for what it calls.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        agent as agent,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        arming as arming,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        baseline as baseline,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        bundling as bundling,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        cables as cables,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        cabling as cabling,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        cgroups as cgroups,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        change as change,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        channel as channel,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        condition as condition,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        daemon as daemon,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        delayclient as delayclient,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        delayline as delayline,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        disks as disks,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        domains as domains,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        errors as errors,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        formatting as formatting,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        health as health,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        hierarchies as hierarchies,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        identity as identity,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        jobs as jobs,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        journal as journal,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        kinds as kinds,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        landing as landing,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        layers as layers,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        limits as limits,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        linkkernel as linkkernel,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        links as links,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        namespaces as namespaces,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        netlink as netlink,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        nftables as nftables,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        nodestatus as nodestatus,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        parts as parts,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        perturbation as perturbation,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        podgroups as podgroups,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        predictions as predictions,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        quality as quality,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        quotas as quotas,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        readback as readback,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        rtnl as rtnl,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        sampler as sampler,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        selection as selection,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        shaping as shaping,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        shortly as shortly,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        stress as stress,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        supervised as supervised,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        supervision as supervision,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        syscalls as syscalls,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        timewords as timewords,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        traffic as traffic,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        units as units,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        upkeep as upkeep,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        verdicts as verdicts,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        verification as verification,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        volatile as volatile,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        watchman as watchman,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils import (
        words as words,
    )
    from ansible_collections.pkgctl.testbed.plugins.module_utils.quality import Quality as Quality
    from ansible_collections.pkgctl.testbed.plugins.plugin_utils import bundles as bundles
    from ansible_collections.pkgctl.testbed.plugins.plugin_utils import records as records

_PLUGINS = "ansible_collections.pkgctl.testbed.plugins"
_HOME = f"{_PLUGINS}.module_utils"
_CLASSES = {"Quality": "quality"}
# What the plugins use on the controller alone.
_BESIDE = dict.fromkeys(("bundles", "records"), f"{_PLUGINS}.plugin_utils")


def __getattr__(name: str) -> Any:
    """Import what is asked for; Python calls this where a name is not there yet."""
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    path = f"{_BESIDE.get(name, _HOME)}.{_CLASSES.get(name, name)}"
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name != path:
            raise
        raise AttributeError(f"the code of the nodes has no module {name!r}") from error
    found = getattr(module, name) if name in _CLASSES else module
    globals()[name] = found
    return found
