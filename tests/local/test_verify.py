# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether drift and wrong links are found, on testbeds of their own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pkgctl import topology
from pkgctl.local import paths, testbed

from .conftest import on_node, pkgctl

pytestmark = pytest.mark.root

TINY = """\
name: tiny
question: Is anything run?
topology: {topology}
verify: {mode}
services:
  web: {{replicas: 1, place: {{on: cloud-1}}, resources: {{cpu: 200m, memory: 32Mi}},
         request: {{cpu: 1ms, in: 100, out: 100}}}}
load:
  - {{service: web, from: edge-1, arrivals: {{constant: 20/s}}, duration: 1s}}
"""


ONE_BOUNDED = """\
name: bounded
sites: {edge: {access: lan, location: {latitude: 50.11, longitude: 8.68}}}
kinds: {device: {role: edge, cpu: 100m, memory: 32Mi}}
nodes:
  - {name: edge-1, site: edge, kind: device, access: {down: 8mbit}}
  - {name: edge-2, site: edge, kind: device}
"""


@pytest.fixture
def bounded(place: paths.Paths, tmp_path: Path) -> paths.Paths:
    """Two nodes, the first with an access that bounds what arrives."""
    written = tmp_path / "bounded.yaml"
    written.write_text(ONE_BOUNDED)
    testbed.up(topology.load(written), place)
    return place


def in_switch(place: paths.Paths, *words: str) -> str:
    """Return what a command prints in the network of the switch."""
    command = ["nsenter", f"--net={place.switch / 'net'}", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def verify(place: paths.Paths, *words: str) -> tuple[int, dict[str, Any], str]:
    done = pkgctl("verify", "--name", place.name, "-o", "json", *words)
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


def address(place: paths.Paths, node: str) -> str:
    return str(testbed.read_state(place)["nodes"][node]["address"])


def squeeze(place: paths.Paths, node: str) -> None:
    """Change the rate of a class behind our back."""
    shown = on_node(place, node, "tc", "class", "show", "dev", "eth0")
    classid = next(line.split()[2] for line in shown.splitlines() if line.startswith("class htb"))
    change = ["tc", "class", "change", "dev", "eth0", "parent", "7067:", "classid", classid]
    on_node(place, node, *change, "htb", "rate", "3mbit")


def cut(place: paths.Paths, node: str, peer: str) -> None:
    """Put an element into our set that nobody asked for."""
    element = f"{{ {address(place, peer)} }}"
    on_node(place, node, "nft", "add", "element", "inet", "pkgctl", "cut", element)


@pytest.mark.quiet
def test_a_fresh_testbed_is_as_asked(three_sites):
    # Whatever else the machine does only makes links worse than they are.
    for _ in range(3):
        status, found, errors = verify(three_sites, "--sample", "3", "--seed", "2")
        if status == 0:
            break

    assert (status, found["drift"]) == (0, {}), errors
    assert len(found["links"]) == 3
    assert {link["verdict"] for link in found["links"]} == {"pass"}
    assert all(link["tolerance_rtt"] > 0 for link in found["links"])


@pytest.mark.quiet
def test_what_is_in_force_now_is_what_is_asked(three_sites):
    words = ("src=edge-1", "dst=cloud-1", "bw=4mbit", "delay=10ms", "loss=5%", "direction=to")
    assert pkgctl("perturb", *words, "--name", "slow", name=three_sites.name).returncode == 0
    parted = ("perturb", "src=edge-4", "dst=cloud-1", "partition=true", "--name", "cut")
    assert pkgctl(*parted, name=three_sites.name).returncode == 0

    pairs = ("--pair", "edge-1:cloud-1", "--pair", "cloud-1:edge-4")
    status, found, errors = verify(three_sites, *pairs)

    assert status == 0, (errors, found)
    slow, down = found["links"]
    assert (slow["asked_rate"], slow["asked_rtt"]) == (4_000_000, pytest.approx(0.034))
    assert (slow["verdict_rtt"], slow["verdict_loss"]) == ("pass", "pass")
    assert (down["verdict"], down["reason"]) == ("pass", "nothing comes back")


def test_a_class_that_was_changed_behind_our_back_is_drift(three_sites):
    squeeze(three_sites, "edge-1")

    status, found, errors = verify(three_sites)

    assert status == 4
    assert list(found["drift"]) == ["edge-1"]
    assert any("toward cloud-1: class 11: 3mbit" in line for line in found["drift"]["edge-1"])
    assert found["links"] == []
    assert errors.startswith("pkgctl: drift on edge-1: ")
    assert len(errors.splitlines()) == 1


def test_a_bound_of_what_arrives_that_was_taken_away_is_drift(bounded):
    status, found, _ = verify(bounded, "--read-back-only")
    assert (status, found["drift"]) == (0, {})
    shown = in_switch(bounded, "tc", "qdisc", "show").splitlines()
    (port,) = (line.split()[4] for line in shown if "htb 7067:" in line)
    in_switch(bounded, "tc", "qdisc", "delete", "dev", port, "root")

    status, found, _ = verify(bounded, "--read-back-only")

    assert status == 4
    assert found["drift"] == {
        "edge-1": [
            f"switch: needs: {each}"
            for each in (
                "put HTB on the link",
                "set class 7067:2",
                "set the queue of class 7067:2",
            )
        ]
    }


def test_an_element_that_nobody_asked_for_is_drift(three_sites):
    cut(three_sites, "edge-2", "cloud-1")

    status, found, _ = verify(three_sites, "--read-back-only")

    assert status == 4
    assert found["drift"] == {"edge-2": ["link: has 'from cloud-1: nothing', which is not asked"]}


def test_a_store_that_is_not_the_topology_is_drift(duo):
    store = duo.node("edge-1") / "links.json"
    stored = json.loads(store.read_text())
    stored["base"] = {"egress": {"cloud-1": {"rate": 10**6}}, "ingress": {}}
    store.write_text(json.dumps(stored))

    status, found, _ = verify(duo, "--read-back-only")

    assert status == 4
    assert any("the topology says unshaped" in line for line in found["drift"]["edge-1"])


@pytest.mark.quiet
def test_a_link_that_is_not_as_asked_is_named(three_sites, tmp_path):
    """A foreign limit where nothing of ours is: only a measurement can tell."""
    shape = ["tc", "qdisc", "add", "dev", "lo", "root", "pfifo"]
    on_node(three_sites, "edge-1", *shape)
    drop = "add table inet foreign; add chain inet foreign c { type filter hook input priority 0; }"
    rule = f"add rule inet foreign c ip saddr {address(three_sites, 'cloud-1')} drop"
    on_node(three_sites, "edge-1", "nft", f"{drop}; {rule}")

    words = ("--pair", "edge-1:cloud-1", "--pair", "edge-2:edge-3", "--budget", "30s")
    status, found, errors = verify(three_sites, *words)

    assert status == 4
    assert found["drift"] == {}
    assert [link["verdict"] for link in found["links"]] == ["fail", "pass"]
    assert errors == "pkgctl: 1 pair is not as asked: edge-1 → cloud-1\n"


def test_a_node_that_is_down_has_no_verdict_but_the_reason(three_sites):
    words = ("perturb", "node=edge-2", "health=paused", "--name", "nap")
    assert pkgctl(*words, name=three_sites.name).returncode == 0

    status, found, errors = verify(three_sites, "--pair", "edge-2:edge-3")

    assert status == 0, errors
    (link,) = found["links"]
    assert (link["verdict"], link["reason"]) == ("unmeasured", "edge-2 is paused")


BAD = {
    "no pair": (("--pair", "edge-1"), "is no FROM:TO"),
    "no node": (("--pair", "edge-1:mars"), "there is no node 'mars'"),
    "no time": (("--budget", "10"), "budget: "),
    "too much": (("--all", "--sample", "3"), "exclude one another"),
}


def test_what_makes_no_sense_is_said_in_one_line(duo):
    for name, (words, message) in BAD.items():
        done = pkgctl("verify", *words, name=duo.name)
        assert done.returncode == 2, name
        assert message in done.stderr, name
        assert len(done.stderr.splitlines()) == 1, name


@pytest.mark.quiet
def test_a_verification_leaves_no_job_behind(duo):
    assert verify(duo)[0] == 0

    assert json.loads(pkgctl("job", "list", "-o", "json", name=duo.name).stdout) == []


def run(
    folder: Path, place: paths.Paths, mode: str, *more: str
) -> subprocess.CompletedProcess[str]:
    topology = testbed.read_state(place)["topology"]["name"]
    (folder / "it.yaml").write_text(TINY.format(mode=mode, topology=topology))
    return pkgctl("experiment", "it.yaml", "--name", place.name, *more, cwd=folder)


def refusal(folder: Path) -> dict[str, Any]:
    """Return what the one run folder says; nothing was run in it."""
    (path,) = (folder / "results").iterdir()
    record: dict[str, Any] = json.loads((path / "run.json").read_text())
    assert record["status"] == "refused"
    assert [one["status"] for cell in record["cells"] for one in cell["runs"]] == ["missing"]
    return record


def forced(folder: Path, place: paths.Paths) -> dict[str, Any]:
    """Return what a run says that goes on all the same."""
    done = run(folder, place, "sample", "--force", "--results", "forced")
    assert done.returncode == 0, done.stderr
    (path,) = (folder / "forced").iterdir()
    record: dict[str, Any] = json.loads((path / "run.json").read_text())
    assert record["status"] == "complete"
    return record


def test_an_experiment_refuses_a_testbed_that_drifted_unless_it_is_forced(three_sites, tmp_path):
    cut(three_sites, "edge-1", "cloud-1")

    refused = run(tmp_path, three_sites, "none")

    assert refused.returncode == 4, refused.stderr
    assert "nothing was run, for the testbed is not as asked: edge-1: link: " in refused.stderr
    assert "from cloud-1: nothing" in refusal(tmp_path)["refused"]
    assert any(
        "from cloud-1: nothing" in line for line in forced(tmp_path, three_sites)["warnings"]
    )
    assert verify(three_sites, "--read-back-only")[0] == 0


def test_an_experiment_refuses_a_link_that_is_not_as_asked_unless_it_is_forced(duo, tmp_path):
    drop = "add table inet foreign; add chain inet foreign c { type filter hook input priority 0; }"
    rule = "add rule inet foreign c udp dport 7068 drop"
    on_node(duo, "edge-1", "nft", f"{drop}; {rule}")

    refused = run(tmp_path, duo, "sample")

    assert refused.returncode == 4, refused.stderr
    assert "nothing was run, for the testbed is not as asked: link " in refused.stderr
    assert "no packet came back" in refusal(tmp_path)["refused"]
    assert list(tmp_path.glob("results/*/links.parquet"))
    assert forced(tmp_path, duo)["bad_links"] == 2
