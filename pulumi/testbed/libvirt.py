# SPDX-License-Identifier: GPL-3.0-or-later
"""A testbed of virtual machines: one provider per host, and what it has there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pulumi
import pulumi_libvirt as libvirt

from pkgctl.remote import names
from pkgctl.remote.places import Places
from testbed import domain, record, seeds
from testbed import overlay as overlays
from testbed.access import Access
from testbed.given import Image
from testbed.hypervisor import KVM, Hypervisor
from testbed.leftovers import Leftovers
from testbed.machines import Machine
from testbed.overlay import Overlay
from testbed.record import Record
from testbed.seed import Seed
from testbed.settings import Host
from testbed.settled import Settled

if TYPE_CHECKING:
    from testbed.components import Declared, Testbed

_DISK, _KERNEL, _INITRD = "base", "kernel", "initrd"
# Whether nodes run is a matter of health, not of the program, and libvirt describes the processor
# of one that was started again in other words. The rest is known by the name, which has the
# content's hash, and a volume's format is what libvirt takes its content for.
_RUNNING = ["running", "cpu"]
_CONTENT = ["source", "format"]
# The provider changes none of these in place, and says that it did.
_FIXED = ["kernel", "initrd", "machine", "networkInterfaces"]


@dataclass(frozen=True)
class Floor:
    """What the machines of a host stand on.

    Attributes:
        data: what cards of the data network are on, in libvirt's words.
        volumes: the image's parts there, by what they are.
    """

    host: Host
    options: pulumi.ResourceOptions
    hypervisor: Hypervisor
    pool: libvirt.Pool
    management: libvirt.Network
    data: Mapping[str, pulumi.Output[str]]
    volumes: Mapping[str, libvirt.Volume]


def declare(testbed: Testbed) -> Declared:
    """Declare all that a testbed of virtual machines is made of."""
    from testbed.components import Declared

    given = testbed.given
    name = given.settings.testbed
    place = Places(name)
    access = Access("access", str(place.key), name, testbed.inside)
    used = {machine.host.name: machine.host for machine in given.machines.values()}
    floors = {
        each: _floor(testbed, host, [other for other in used.values() if other is not host])
        for each, host in used.items()
    }
    declared = {
        node: _machine(testbed, machine, floors[machine.host.name], access)
        for node, machine in given.machines.items()
    }
    state = pulumi.Output.all(
        **{host: floor.hypervisor.type for host, floor in floors.items()}
    ).apply(lambda types: record.complete(given.record, types))
    noted = Record(
        "record",
        str(place.state),
        state.apply(json.dumps),
        {node: seed.host_key for node, (seed, _) in declared.items()},
        testbed.inside,
    )
    if given.settings.settle:
        _settle(testbed, noted, {node: machine for node, (_, machine) in declared.items()})
    return Declared(state, noted.path)


def _floor(testbed: Testbed, host: Host, others: Sequence[Host]) -> Floor:
    given = testbed.given
    name = given.settings.testbed
    assert given.image is not None
    leftovers = Leftovers(host.name, host.uri, name, testbed.inside)
    after = pulumi.ResourceOptions(parent=testbed, depends_on=[leftovers])
    hypervisor = Hypervisor(host.name, host.uri, name, after)
    provider = libvirt.Provider(
        host.name,
        uri=host.uri,
        opts=pulumi.ResourceOptions(parent=testbed, depends_on=[hypervisor]),
    )
    options = pulumi.ResourceOptions(
        parent=testbed,
        provider=provider,
        depends_on=[leftovers, hypervisor, testbed.guard],
        delete_before_replace=True,
    )
    pool = libvirt.Pool(
        host.name,
        name=names.pool(name),
        type="dir",
        target={"path": f"{host.folder}/{names.pool(name)}"},
        opts=options,
    )
    return Floor(
        host=host,
        options=options,
        hypervisor=hypervisor,
        pool=pool,
        management=_network(name, seeds.MANAGEMENT, host, options, [str(host.network)]),
        data={"bridge": _overlay(testbed, host, others, hypervisor).bridge}
        if others
        else {"network_id": _network(name, "data", host, options, []).id},
        volumes=_image(host, pool, given.image, options),
    )


def _network(
    testbed: str,
    which: str,
    host: Host,
    options: pulumi.ResourceOptions,
    addresses: Sequence[str],
) -> libvirt.Network:
    return libvirt.Network(
        f"{host.name}-{which}",
        name=names.network(testbed, which),
        mode="none",
        bridge=domain.bridge(_short(testbed), which),
        addresses=list(addresses) or None,
        autostart=True,
        dhcp={"enabled": False} if addresses else None,
        dns={"enabled": False},
        xml={"xslt": domain.network_xslt()},
        opts=pulumi.ResourceOptions.merge(
            options, pulumi.ResourceOptions(replace_on_changes=["mtu"])
        ),
    )


def _overlay(
    testbed: Testbed, host: Host, others: Sequence[Host], hypervisor: Hypervisor
) -> Overlay:
    """Declare a host's end of the data network that goes over all hosts.

    Its bridge is no network of libvirt's: of a card on such a network libvirt tells the bridge
    alone while the machine runs, so it would seem to be another card each time.
    """
    addresses = [host.address, *(each.address for each in others)]
    inside = pulumi.ResourceOptions(parent=testbed, depends_on=[hypervisor])
    return Overlay(host.name, host.uri, testbed.given.settings.testbed, addresses, inside)


def _short(testbed: str) -> str:
    return hashlib.sha256(testbed.encode()).hexdigest()[:8]


def _image(
    host: Host, pool: libvirt.Pool, image: Image, options: pulumi.ResourceOptions
) -> dict[str, libvirt.Volume]:
    """Declare the image's parts in a host's pool, uploaded once for all nodes."""
    parts = {_DISK: image.disk, _KERNEL: image.kernel, _INITRD: image.initrd}
    fresh = pulumi.ResourceOptions(ignore_changes=_CONTENT, delete_before_replace=False)
    return {
        part: libvirt.Volume(
            f"{host.name}-{part}",
            name=f"{part}.{image.fingerprint[:16]}",
            pool=pool.name,
            source=str(path),
            format=image.format if part == _DISK else "raw",
            opts=pulumi.ResourceOptions.merge(options, fresh),
        )
        for part, path in parts.items()
        if path is not None
    }


def _machine(
    testbed: Testbed, machine: Machine, floor: Floor, access: Access
) -> tuple[Seed, libvirt.Domain]:
    given = testbed.given
    node = machine.node.name
    inside = pulumi.ResourceOptions.merge(
        floor.options, pulumi.ResourceOptions(parent=testbed.nodes[node])
    )
    seed = _seed(testbed, machine, access)
    volumes = [
        libvirt.Volume(
            f"{node}-root",
            name=f"{node}.root",
            pool=floor.pool.name,
            base_volume_id=floor.volumes[_DISK].id,
            opts=inside,
        ),
        libvirt.Volume(
            f"{node}-seed",
            name=seed.hash.apply(lambda digest: f"{node}.seed.{digest[:16]}"),
            pool=floor.pool.name,
            source=seed.path,
            format="raw",
            xml={"xslt": domain.private_xslt()},
            opts=pulumi.ResourceOptions.merge(
                inside,
                pulumi.ResourceOptions(ignore_changes=_CONTENT, delete_before_replace=False),
            ),
        ),
        *(
            libvirt.Volume(
                f"{node}-disk-{disk}",
                name=f"{node}.disk.{disk}",
                pool=floor.pool.name,
                size=known.size,
                format="raw",
                opts=inside,
            )
            for disk, known in machine.node.disks.items()
        ),
    ]
    assert given.image is not None
    return seed, _domain(machine, floor, volumes, given.image, inside)


def _seed(testbed: Testbed, machine: Machine, access: Access) -> Seed:
    given = testbed.given
    node = machine.node.name

    addresses = {each.host.address for each in given.machines.values()}
    mtu = overlays.mtu(sorted(addresses)) if len(addresses) > 1 else None

    def content(own: str) -> str:
        return json.dumps(seeds.content(machine, [own, *given.keys], mtu=mtu))

    return Seed(
        node,
        str(Places(given.settings.testbed).seeds / f"{node}.iso"),
        given.settings.testbed,
        access.public.apply(content),
        testbed.nodes[node].inside,
    )


def _domain(
    machine: Machine,
    floor: Floor,
    volumes: Sequence[libvirt.Volume],
    image: Image,
    inside: pulumi.ResourceOptions,
) -> libvirt.Domain:
    cpu = floor.hypervisor.type.apply(
        lambda kind: {"mode": "host-passthrough" if kind == KVM else "maximum"}
    )
    options = pulumi.ResourceOptions(
        ignore_changes=_RUNNING,
        replace_on_changes=_FIXED,
        custom_timeouts=pulumi.CustomTimeouts(create="10m"),
    )
    return libvirt.Domain(
        machine.node.name,
        name=machine.domain,
        type=floor.hypervisor.type,
        cpu=cpu,
        vcpu=machine.vcpu,
        memory=machine.memory,
        autostart=True,
        disks=[{"volume_id": volume.id} for volume in volumes],
        network_interfaces=[
            {"network_id": floor.management.id, "mac": machine.mac.upper()},
            {**floor.data, "mac": machine.data_mac.upper()},
        ],
        kernel=floor.volumes[_KERNEL].id if _KERNEL in floor.volumes else None,
        initrd=floor.volumes[_INITRD].id if _INITRD in floor.volumes else None,
        cmdlines=domain.cmdlines(image.cmdline) if image.kernel else None,
        xml={"xslt": domain.domain_xslt(machine.console)},
        opts=pulumi.ResourceOptions.merge(inside, options),
    )


def _settle(testbed: Testbed, noted: Record, machines: Mapping[str, libvirt.Domain]) -> None:
    given = testbed.given
    matrix = given.topology.matrix()
    props: dict[str, Any] = {
        "testbed": given.settings.testbed,
        "path": noted.path,
        "patience": given.settings.patience,
        "impairment": given.settings.impairment,
        "machines": {node: machine.id for node, machine in machines.items()},
        "nodes": {name: _digest(machine) for name, machine in given.machines.items()},
        "links": {
            f"{source} → {target}": cell.show()
            for source, row in matrix.items()
            for target, cell in row.items()
        },
    }
    after = pulumi.ResourceOptions(parent=testbed, depends_on=[noted, *machines.values()])
    Settled("settled", props, after)


def _digest(machine: Machine) -> str:
    return hashlib.sha256(repr(machine.identity).encode()).hexdigest()[:16]
