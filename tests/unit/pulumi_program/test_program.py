# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole program, with mocks in the place of machines."""

from __future__ import annotations

import json

import pytest
import yaml

from pkgctl.remote import needs
from tests.unit.pulumi_program.program import PROGRAM, run


@pytest.fixture
def declared(small, picture):
    """What a stack of virtual machines on one host declares."""
    return run({"provider": "libvirt", "topology": str(small), "testbed": "lab"})


def test_main_is_short():
    assert len((PROGRAM / "__main__.py").read_text().splitlines()) <= 40


def test_every_setting_is_described_and_typed_and_read(small, picture):
    keys = yaml.safe_load((PROGRAM / "Pulumi.yaml").read_text())["config"]

    assert all(entry.get("type") and entry.get("description") for entry in keys.values())
    defaults = {key: entry["default"] for key, entry in keys.items()}
    run({**defaults, "provider": "libvirt", "topology": str(small)})


def test_what_is_missing_is_told_with_its_remedy_before_anything_is_declared(
    small, picture, lacking, caplog
):
    lacking.append(needs.Need("xsltproc", "writes domains", "apt-get install xsltproc"))

    with pytest.raises(SystemExit) as ended:
        run({"provider": "libvirt", "topology": str(small)})

    assert ended.value.code == 32
    assert caplog.messages == ["missing: xsltproc (writes domains): apt-get install xsltproc"]


@pytest.mark.parametrize("stack", ["local", "libvirt"])
def test_the_stacks_that_come_with_the_project_use_known_keys(stack):
    known = yaml.safe_load((PROGRAM / "Pulumi.yaml").read_text())["config"]
    config = yaml.safe_load((PROGRAM / f"Pulumi.{stack}.yaml").read_text())["config"]

    assert {key.removeprefix("pkgctl-testbed:") for key in config} <= set(known)


def test_the_parts_of_a_testbed_are_components_with_stable_tokens(declared):
    assert list(declared.of("Testbed")) == ["lab"]
    assert {"here", "there"} == set(declared.of("Site"))
    assert {"server", "device-1", "device-2"} == set(declared.of("Node"))
    assert {"here->there", "there->here"} == set(declared.of("Link"))
    tokens = {f"pkgctl:testbed:{part}" for part in ("Testbed", "Site", "Node", "Link")}
    assert tokens <= declared.types()


def test_a_machine_and_its_volumes_are_inside_their_node(declared):
    node = "urn:pulumi:lab::pkgctl-testbed::"
    for kind, name in (("Domain", "server"), ("Volume", "server-root"), ("Seed", "server")):
        parent = declared.request(kind, name).parent
        assert parent.startswith(node)
        assert parent.endswith("pkgctl:testbed:Node::server")


def test_each_node_gets_a_root_a_seed_and_its_own_disks(declared):
    assert set(declared.of("Volume")) == {
        *(f"here-{part}" for part in ("base", "kernel", "initrd")),
        *(
            f"{node}-{part}"
            for node in ("server", "device-1", "device-2")
            for part in ("root", "seed")
        ),
        "server-disk-data",
    }
    assert declared.of("Volume")["server-disk-data"]["size"] == 64 * 2**20


def test_names_on_the_host_carry_the_testbeds(declared):
    domains = {inputs["name"] for inputs in declared.of("Domain").values()}
    networks = {inputs["name"] for inputs in declared.of("Network").values()}

    assert domains == {"pkgctl.lab.server", "pkgctl.lab.device-1", "pkgctl.lab.device-2"}
    assert networks == {"pkgctl.lab.mgmt", "pkgctl.lab.data"}
    assert declared.of("Pool")["here"]["name"] == "pkgctl.lab"


def test_a_domain_has_whole_processors_and_memory_for_its_own_system(declared):
    server = declared.of("Domain")["server"]

    assert (server["vcpu"], server["memory"]) == (2, 256 + 256)
    assert server["type"] == "qemu"
    assert server["cpu"] == {"mode": "maximum"}
    assert [each["networkId"] for each in server["networkInterfaces"]] == [
        "here-mgmt-id",
        "here-data-id",
    ]


def test_the_disks_of_a_domain_are_in_the_order_that_its_serials_have(declared):
    volumes = [each["volumeId"] for each in declared.of("Domain")["server"]["disks"]]

    assert volumes == ["server-root-id", "server-seed-id", "server-disk-data-id"]


def test_what_has_one_name_only_is_deleted_before_it_is_replaced(declared):
    for kind, name in (("Domain", "server"), ("Network", "here-data"), ("Volume", "server-root")):
        assert declared.request(kind, name).deleteBeforeReplace


def test_what_the_provider_does_not_change_in_place_is_replaced(declared):
    request = declared.request("Domain", "server")

    assert set(request.replaceOnChanges) >= {"kernel", "initrd", "networkInterfaces"}
    assert list(request.ignoreChanges) == ["running", "cpu"]


def test_all_of_a_host_goes_by_its_own_provider(small, picture):
    hosts = [
        {"name": "one", "uri": "qemu:///system", "address": "192.0.2.1"},
        {"name": "two", "uri": "qemu+ssh://root@192.0.2.2/system", "address": "192.0.2.2"},
    ]

    declared = run({"provider": "libvirt", "topology": str(small), "hosts": hosts})

    assert {"one", "two"} <= {
        made.name for made in declared.made if made.typ == "pulumi:providers:libvirt"
    }
    providers = {
        name: declared.request("Domain", name).provider.rpartition("::")[2].partition("-id")[0]
        for name in declared.of("Domain")
    }
    assert set(providers.values()) == {"one", "two"}
    assert declared.of("Network")["two-mgmt"]["addresses"] == ["192.168.178.0/24"]


def test_disks_are_guarded_before_anything_is_made(declared):
    guard = declared.of("Disks")["disks"]

    assert guard["disks"]["server"] == {
        "root": "image ffffffffffff on here",
        "data": "64Mi on here",
    }
    assert not guard["replace"]
    needed = declared.request("Volume", "server-disk-data").dependencies
    assert any(each.endswith("testbed:Disks::disks") for each in needed)


def test_nothing_secret_is_given_to_pulumi(declared):
    said = "".join(str(made.inputs) for made in declared.made)

    assert "PRIVATE KEY" not in said
    assert "ed25519_private" not in said


def test_settling_waits_for_the_record_and_is_told_of_each_link(declared):
    settled = declared.of("Settled")["settled"]

    assert settled["links"]["server → device-1"].startswith("5mbit 20ms")
    assert set(settled["machines"]) == {"server", "device-1", "device-2"}
    needed = declared.request("Settled", "settled").dependencies
    assert any(each.endswith("testbed:Record::record") for each in needed)


def test_settling_can_be_left_out(small, picture):
    declared = run({"provider": "libvirt", "topology": str(small), "settle": "false"})

    assert not declared.of("Settled")


def test_the_record_says_what_the_hosts_were_found_to_be(declared):
    record = json.loads(declared.of("Record")["record"]["state"])

    assert record["hypervisors"] == {"here": {"uri": "qemu:///system", "type": "qemu"}}
    assert record["nodes"]["server"]["domain"] == "pkgctl.lab.server"
    assert record["provider"] == "libvirt"


def test_the_stack_gives_inventory_links_addresses_and_the_records_place(declared, state):
    outputs = declared.outputs

    hosts = outputs["inventory"]["all"]["children"]["nodes"]["hosts"]
    assert hosts["server"]["ansible_host"] == "192.168.177.2"
    assert outputs["links"]["server"]["device-1"]["rate"] == 5_000_000
    assert outputs["addresses"]["server"] == "10.77.0.1"
    assert outputs["state"] == str(state / "lab" / "state.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("network", "10.0.0.0/33"),
        ("provider", "cloud"),
        ("hosts", '[{"name": "a"}]'),
        ("topology", "no-such"),
    ],
)
def test_a_wrong_setting_ends_the_program_with_one_line_and_nothing_made(
    key, value, small, picture, caplog
):
    config = {"provider": "libvirt", "topology": str(small), key: value}

    with pytest.raises(SystemExit) as ended:
        run(config)

    assert ended.value.code == 32
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(key)
    assert "\n" not in caplog.messages[0]


def test_a_local_stack_declares_nodes_of_this_machine_and_no_other(small):
    declared = run({"provider": "local", "topology": str(small), "testbed": "unit-mock"})

    assert not declared.of("Domain")
    assert {name for name in declared.of("Node")} == {"server", "device-1", "device-2"}
    assert "pulumi-python:dynamic/local:Node" in declared.types()


def test_several_hosts_share_one_data_network_with_smaller_packets(small, picture):
    hosts = [
        {"name": "one", "uri": "qemu:///system", "address": "192.0.2.1"},
        {"name": "two", "uri": "qemu+ssh://root@192.0.2.2/system", "address": "192.0.2.2"},
    ]

    declared = run({"provider": "libvirt", "topology": str(small), "hosts": hosts})

    overlays = declared.of("Overlay")
    assert overlays["one"]["peers"] == ["192.0.2.2"]
    assert overlays["two"]["local"] == "192.0.2.2"
    assert overlays["one"]["number"] == overlays["two"]["number"]
    assert set(declared.of("Network")) == {"one-mgmt", "two-mgmt"}
    for host, machine in (("one", "server"), ("two", "device-1")):
        cards = declared.of("Domain")[machine]["networkInterfaces"]
        # Of a network over a bridge libvirt tells something else than it was told.
        assert [set(card) - {"mac"} for card in cards] == [{"networkId"}, {"bridge"}]
        assert cards[1]["bridge"] == overlays[host]["bridge"]
    content = json.loads(declared.of("Seed")["server"]["content"])
    assert content["network"]["ethernets"]["data"]["mtu"] == 1450
    assert "mtu" not in content["network"]["ethernets"]["mgmt"]
