# SPDX-License-Identifier: GPL-3.0-or-later
"""What a testbed left on a libvirt host, found by name: for what was made and never recorded.

A program that is killed between making a thing and noting that it did leaves the thing behind.
Names carry the testbed's, so it is found all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress

from pkgctl.errors import TestbedError
from pkgctl.remote import names, virsh

# A thing on a host: what it is, and its name; a volume's is its pool's and its own.
Thing = tuple[str, str]
_DOMAIN, _NETWORK, _POOL, _VOLUME = "domain", "network", "pool", "volume"


def left(uri: str, testbed: str) -> list[Thing]:
    """Return what a host has of a testbed, in the order in which it can be removed.

    Raises:
        TestbedError: if the host does not answer.
    """
    return list(_things(uri, testbed))


def _things(uri: str, testbed: str) -> Iterator[Thing]:
    yield from ((_DOMAIN, name) for name in virsh.states(uri) if names.is_ours(testbed, name))
    yield from ((_NETWORK, name) for name in virsh.networks(uri) if names.is_ours(testbed, name))
    for name, state in virsh.pools(uri).items():
        if names.is_ours(testbed, name):
            if state == "active":
                with suppress(TestbedError):
                    virsh.call(uri, "pool-refresh", name)
                yield from ((_VOLUME, f"{name}/{each}") for each in virsh.volumes(uri, name))
            yield (_POOL, name)


def remove(uri: str, testbed: str, keep: Collection[Thing] = ()) -> list[str]:
    """Remove from a host what it has of a testbed and what nobody keeps; return what went.

    Raises:
        TestbedError: if something would not go, in libvirt's own words.
    """
    gone = [thing for thing in left(uri, testbed) if thing not in keep]
    for kind, name in gone:
        _REMOVERS[kind](uri, name)
    return [f"- {kind} {name}" for kind, name in gone]


def _remove_domain(uri: str, name: str) -> None:
    with suppress(TestbedError):  # it is off already
        virsh.call(uri, "destroy", name)
    virsh.call(uri, "undefine", name, "--nvram", "--managed-save", "--snapshots-metadata")


def _remove_network(uri: str, name: str) -> None:
    with suppress(TestbedError):
        virsh.call(uri, "net-destroy", name)
    virsh.call(uri, "net-undefine", name)


def _remove_volume(uri: str, name: str) -> None:
    pool, _, volume = name.partition("/")
    virsh.call(uri, "vol-delete", volume, "--pool", pool)


def _remove_pool(uri: str, name: str) -> None:
    # A pool's folder goes only while the pool is defined and does not run.
    with suppress(TestbedError):
        virsh.call(uri, "pool-destroy", name)
    with suppress(TestbedError):
        virsh.call(uri, "pool-delete", name)
    virsh.call(uri, "pool-undefine", name)


_REMOVERS = {
    _DOMAIN: _remove_domain,
    _NETWORK: _remove_network,
    _VOLUME: _remove_volume,
    _POOL: _remove_pool,
}
