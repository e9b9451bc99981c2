# SPDX-License-Identifier: GPL-3.0-or-later
"""``verify.yml`` and its modules, on testbeds of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pkgctl.local import paths

from .conftest import on_node, pkgctl
from .test_verify import address, cut

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]


def ansible(tool: str, place: paths.Paths, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).parent / tool), *words],
        cwd=ROOT / "ansible",
        env={**os.environ, "PKGCTL_TESTBED": place.name, "LC_ALL": "C.UTF-8", "COLUMNS": "400"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def play(place: paths.Paths, *words: str) -> subprocess.CompletedProcess[str]:
    given = [part for word in words for part in ("-e", word)]
    return ansible("ansible-playbook", place, "verify.yml", *given)


def task(place: paths.Paths, node: str, module: str, folder: Path, **options: Any) -> Any:
    words = ("-m", f"pkgctl.testbed.{module}", "-a", json.dumps(options), "--tree", str(folder))
    ansible("ansible", place, node, *words)
    return json.loads((folder / node).read_text())


@pytest.mark.quiet
def test_a_fresh_testbed_passes_and_nothing_has_changed(three_sites):
    done = play(three_sites, "sample=2", "seed=3", "budget=20s")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "changed=1" not in done.stdout
    left = json.loads(pkgctl("job", "list", "-o", "json", name=three_sites.name).stdout)
    assert left == []


def test_drift_is_a_failure_that_is_named_and_nothing_is_measured(three_sites):
    cut(three_sites, "edge-2", "cloud-1")

    done = play(three_sites, "sample=1")

    assert done.returncode != 0
    assert "drift: link: has 'from cloud-1: nothing', which is not asked" in done.stdout
    assert "TASK [The node answers]" not in done.stdout


def test_a_link_that_is_not_as_asked_fails_and_is_named(three_sites):
    drop = "add table inet foreign; add chain inet foreign c { type filter hook input priority 0; }"
    rule = f"add rule inet foreign c ip saddr {address(three_sites, 'cloud-1')} drop"
    on_node(three_sites, "edge-1", "nft", f"{drop}; {rule}")

    done = play(three_sites, "src=edge-1", "dst=cloud-1", "budget=10s")

    assert done.returncode != 0
    assert "edge-1 → cloud-1: no packet came back" in done.stdout


BAD = {
    "no word": ("smaple=3", "did you mean 'sample'?"),
    "no number": ("sample=many", "sample: 'many' is no whole number, 1 or more"),
    "no node": ("src=mars", "mars"),
    "no time": ("budget=10", "budget: "),
}


def test_words_without_a_meaning_fail_before_any_node_is_looked_at(duo):
    for name, (word, message) in BAD.items():
        done = play(duo, word)
        assert done.returncode != 0, name
        assert message.split("'")[0] in done.stdout, (name, done.stdout)
        assert "TASK [The node is as its layers ask]" not in done.stdout, name


@pytest.mark.parametrize("become", [False, True], ids=["action", "module"])
def test_what_differs_can_be_told_without_a_failure(duo, tmp_path, become):
    words = ["-e", json.dumps({"ansible_become_method": "su"}), *(["--become"] * become)]
    options = json.dumps({"fail": False})
    put = ("tc", "qdisc", "add", "dev", "eth0", "root", "handle", "7067:", "htb")
    on_node(duo, "edge-1", *put)
    shape = ("tc", "class", "add", "dev", "eth0", "parent", "7067:", "classid", "7067:11")
    on_node(duo, "edge-1", *shape, "htb", "rate", "1mbit")

    module = ("-m", "pkgctl.testbed.drift", "-a", options, "--tree", str(tmp_path))
    ansible("ansible", duo, "edge-1", *module, *words)
    found = json.loads((tmp_path / "edge-1").read_text())

    assert not found.get("failed"), found
    assert found["changed"] is False
    assert found["drift"] and all(line.startswith("link: ") for line in found["drift"])
    assert found["in_force"]["health"] == "running"


@pytest.mark.quiet
def test_a_round_trip_is_measured_between_a_node_that_listens_and_another(duo, tmp_path):
    assert task(duo, "cloud-1", "measure", tmp_path, state="listening")["changed"] is False

    options = {"dst": "cloud-1", "what": "rtt", "options": ["--count", "5"]}
    (answer,) = task(duo, "edge-1", "measure", tmp_path, **options)["answers"]
    task(duo, "cloud-1", "measure", tmp_path, state="silent")
    (nothing,) = task(duo, "edge-1", "measure", tmp_path, **{**options, "options": []})["answers"]

    assert (answer["count"], answer["lost"]) == (5, 0)
    assert nothing == {} or nothing["lost"] == nothing["count"]
