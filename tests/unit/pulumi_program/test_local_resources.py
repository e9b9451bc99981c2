# SPDX-License-Identifier: GPL-3.0-or-later
"""What the program declares of a local testbed."""

from __future__ import annotations

import pytest

from pkgctl.local import declared as parts
from tests.unit.pulumi_program.program import PROJECT, STACK, run

ROOT = f"urn:pulumi:{STACK}::{PROJECT}::pkgctl:testbed:Testbed$pulumi-python:dynamic/local:Testbed"


def local(program, kind):
    """Return the inputs of the local resources of a kind by name, Pulumi's own left out."""
    return {
        made.name: {key: value for key, value in made.inputs.items() if key != "__provider"}
        for made in program.made
        if made.typ == f"pulumi-python:dynamic/local:{kind}"
    }


@pytest.fixture
def program(small):
    return run({"provider": "local", "topology": str(small), "testbed": "unit-mock"})


def test_each_line_of_the_topology_is_one_resource(program):
    assert set(local(program, "Testbed")) == {"unit-mock"}
    assert set(local(program, "Site")) == {"here", "there"}
    assert set(local(program, "Node")) == {"server", "device-1", "device-2"}
    assert set(local(program, "Link")) == {"here->there", "there->here"}


def test_a_link_is_declared_in_the_texts_of_the_topology(program):
    assert local(program, "Link")["here->there"] == {
        "testbed": "unit-mock",
        "name": "here->there",
        "from": "here",
        "to": "there",
        "rate": "5mbit",
        "delay": "20ms",
    }


def test_a_node_is_declared_with_what_it_may_use(program):
    node = local(program, "Node")["server"]

    assert node["cpu"] == "1.5"
    assert node["disks"] == {"data": {"size": "64Mi", "mount": "/data"}}
    assert node["number"] == 1
    assert node["site"] == "here"


def test_everything_goes_with_the_testbed_by_one_removal(program):
    for kind in ("Site", "Node", "Link"):
        for name in local(program, kind):
            request = program.request(f"dynamic/local:{kind}", name)
            assert request.deletedWith == f"{ROOT}::unit-mock"
            assert f"{ROOT}::unit-mock" in request.dependencies


def test_a_node_waits_for_its_site_and_for_no_other(program):
    request = program.request("dynamic/local:Node", "device-1")

    sites = [each for each in request.dependencies if "local:Site" in each]

    assert [each.rpartition("::")[2] for each in sites] == ["there"]


def test_one_edited_rate_is_one_other_resource(small):
    config = {"provider": "local", "topology": str(small), "testbed": "unit-mock"}
    before = run(config)
    text = small.read_text()
    small.write_text(
        text.replace(
            "symmetric: true}",
            "symmetric: false}\n  - {from: there, to: here, rate: 6mbit, delay: 20ms}",
        )
    )
    after = run(config)

    kinds = [kind.capitalize() for kind in parts.KINDS]
    differ = [
        name
        for kind in kinds
        for name in local(before, kind)
        if local(before, kind)[name] != local(after, kind)[name]
    ]

    assert differ == ["there->here"]


def test_what_the_machine_cannot_hold_is_said_and_not_declared(small, caplog):
    small.write_text(small.read_text().replace("memory: 256Mi", "memory: 64Ti"))

    with pytest.raises(SystemExit):
        run({"provider": "local", "topology": str(small), "testbed": "unit-mock"})

    assert "this machine has" in caplog.text
