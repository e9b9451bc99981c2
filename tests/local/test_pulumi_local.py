# SPDX-License-Identifier: GPL-3.0-or-later
"""A local testbed by the real `pulumi` command: up, changed piece by piece, looked at, gone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from pkgctl import project, topology
from pkgctl.local import paths, removal, testbed
from pkgctl.nodeside import Quality, links, quotas

from .conftest import on_node, pkgctl, traces_of

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("pulumi") is None, reason="needs the command pulumi"),
]

PROGRAM = Path(__file__).parents[2] / "pulumi"
STACK = "test"


@dataclass(frozen=True)
class Stack:
    """A stack with a backend and a copy of the program's project of its own."""

    folder: Path
    place: paths.Paths

    @property
    def file(self) -> Path:
        """The topology."""
        return self.folder / "topology.yaml"

    def edit(self, old: str, new: str) -> None:
        """Replace a text of the topology."""
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new))

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["pulumi", *words, "--non-interactive"],
            cwd=self.folder / "project",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={
                **os.environ,
                "PULUMI_BACKEND_URL": f"file://{self.folder}",
                "PULUMI_CONFIG_PASSPHRASE": "x",
                "PULUMI_HOME": os.environ.get("PULUMI_HOME", str(Path.home() / ".pulumi")),
                "PULUMI_STACK": STACK,
                "PULUMI_SKIP_UPDATE_CHECK": "true",
            },
        )

    def run(self, *words: str, code: int = 0) -> str:
        """Return what pulumi prints; it ends with the code."""
        process = self.start(*words)
        try:
            text, _ = process.communicate(timeout=240)
        finally:
            end(process)
        assert process.returncode == code, text
        return text

    def up(self, code: int = 0) -> str:
        return self.run("up", "--yes", "--skip-preview", code=code)

    def preview(self) -> list[str]:
        """Return the lines of a preview that say what changes."""
        text = self.run("preview", "--diff", "--suppress-outputs")
        return [line.strip() for line in text.splitlines() if line.strip()[:1] in ("~", "+", "-")]

    def refresh(self) -> str:
        return self.run("refresh", "--yes", "--skip-preview", "--diff")

    def release(self) -> None:
        """Take the lock of a killed command away; what it half wrote of its state is put back."""
        for path in self.folder.glob(f".pulumi/stacks/*/{STACK}.json"):
            try:
                json.loads(path.read_text())
            except ValueError:
                shutil.copy(f"{path}.bak", path)
        self.run("cancel", "--yes")

    def output(self, name: str) -> object:
        return json.loads(self.run("stack", "output", name, "--json"))


def end(process: subprocess.Popen[str]) -> None:
    """Kill whatever is left of a command, and of its session the plugins in groups of their own."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            session = int(path.read_text().rpartition(")")[2].split()[3])
            if session == process.pid:
                os.kill(int(path.parent.name), signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


@pytest.fixture
def stack(place: paths.Paths, tmp_path: Path) -> Iterator[Stack]:
    """The topology three-sites as a stack that is not up yet."""
    folder = tmp_path / "project"
    folder.mkdir()
    described = yaml.safe_load((PROGRAM / "Pulumi.yaml").read_text())
    described["runtime"]["options"]["virtualenv"] = sys.prefix
    (folder / "Pulumi.yaml").write_text(yaml.safe_dump(described))
    for name in ("__main__.py", "testbed"):
        (folder / name).symlink_to(PROGRAM / name)
    made = Stack(tmp_path, place)
    shutil.copy(project.topologies() / "three-sites.yaml", made.file)
    made.edit(", symmetric: true", "")
    made.run("stack", "init", STACK)
    settings = {"provider": "local", "testbed": place.name, "topology": str(made.file)}
    for key, value in settings.items():
        made.run("config", "set", key, value)
    yield made


def test_up_is_what_pkgctl_up_makes_and_destroy_leaves_nothing(stack: Stack) -> None:
    stack.up()

    assert stack.preview() == []
    again = testbed.up(topology.load(str(stack.file)), stack.place)
    assert again.lines == []
    assert " 0% packet loss" in on_node(stack.place, "edge-5", "ping", "-c", "1", "edge-4")
    state = testbed.read_state(stack.place)
    assert stack.output("addresses") == {
        name: node["address"] for name, node in state["nodes"].items()
    }
    assert list(state["nodes"]) == [node.name for node in topology.load(str(stack.file)).nodes]

    stack.run("destroy", "--yes", "--skip-preview")

    assert traces_of(stack.place.name) == []


def test_an_edited_rate_is_one_update_and_holds(stack: Stack) -> None:
    stack.up()
    stack.edit("rate: 20mbit", "rate: 5mbit")

    changes = stack.preview()

    assert changes == [
        "~ pulumi-python:dynamic/local:Link: (update)",
        '~ rate   : "20mbit" => "5mbit"',
        "~ 1 to update",
    ]
    stack.up()
    assert "rate 5Mbit" in on_node(stack.place, "edge-1", "tc", "class", "show", "dev", "eth0")
    assert stack.preview() == []


def test_a_playbook_disturbs_what_is_up_without_another_step(stack: Stack) -> None:
    stack.up()

    subprocess.run(
        [Path(sys.prefix, "bin", "ansible-playbook"), "perturb.yml", "-e", "bw=5mbit"],
        cwd=PROGRAM.with_name("ansible"),
        env={**os.environ, "PKGCTL_TESTBED": stack.place.name},
        stdout=subprocess.DEVNULL,
        timeout=240,
        check=True,
    )

    assert "rate 5Mbit" in on_node(stack.place, "edge-1", "tc", "class", "show", "dev", "eth0")
    assert stack.preview() == []


def test_nodes_change_in_place_or_anew_and_others_stay(stack: Stack) -> None:
    stack.up()
    on_node(stack.place, "edge-1", "sh", "-c", "echo kept > /data/mark")
    stack.edit("cpu: 500m, memory: 384Mi", "cpu: 400m, memory: 256Mi")
    stack.edit("size: 64Mi", "size: 32Mi")

    changes = stack.preview()

    assert sum("local:Node: (replace)" in line for line in changes) == 3
    assert sum("local:Node: (update)" in line for line in changes) == 2
    assert '~ cpu    : "0.5" => "0.4"' in changes
    stack.up()
    assert on_node(stack.place, "edge-1", "cat", "/data/mark") == "kept\n"
    facts = json.loads(pkgctl("status", "--name", stack.place.name, "-o", "json").stdout)
    assert facts["nodes"]["edge-1"]["memory_now"] == 256 << 20
    assert stack.preview() == []


def test_refresh_sees_what_was_changed_beside_it_and_up_mends_it(stack: Stack) -> None:
    stack.up()
    other = {"egress": {"cloud-1": Quality(rate=1_000_000), "edge-4": Quality(rate=3_000_000)}}
    with testbed.inside(stack.place, "edge-1") as here:
        links.change(here, layer="base", **other)
        quotas.change(here, layer="base", limits={"cpu": 0.1, "memory": 384 << 20, "pids": 512})

    seen = stack.refresh()

    assert '"20mbit" => "1mbit"' in seen
    assert '"250m"' not in seen
    assert 'cpu     : "0.5" => "0.1"' in seen
    assert "edge-1 -> edge-4: 3mbit, not 20mbit" in seen
    stack.up()
    classes = on_node(stack.place, "edge-1", "tc", "class", "show", "dev", "eth0")
    assert "rate 20Mbit" in classes
    assert "rate 1Mbit" not in classes
    assert "3Mbit" not in classes
    stack.refresh()
    assert stack.preview() == []


def test_a_testbed_that_was_taken_down_beside_it_is_told_seen_and_made_again(stack: Stack) -> None:
    stack.up()
    removal.down(stack.place)
    stack.edit("rate: 20mbit", "rate: 5mbit")

    refused = stack.up(code=1)

    assert f"error: testbed {stack.place.name!r} is gone" in refused
    assert "Traceback" not in refused
    stack.refresh()
    stack.up()
    assert stack.preview() == []


def test_one_node_that_is_gone_is_seen_and_made_again(stack: Stack) -> None:
    stack.up()
    fewer = topology.loads(
        stack.file.read_text().replace("  - {name: edge-5, site: edge-b, kind: device}\n", "")
    )
    testbed.up(fewer, stack.place)

    assert "edge-5" in stack.refresh()
    stack.up()

    assert " 0% packet loss" in on_node(stack.place, "edge-5", "ping", "-c", "1", "cloud-2")
    assert stack.preview() == []


def test_a_testbed_of_somebody_else_is_left_alone(stack: Stack) -> None:
    testbed.up(topology.load("duo"), stack.place)

    refused = stack.up(code=1)

    assert "is up already and was made by something else" in refused
    assert "Traceback" not in refused
    assert set(testbed.read_state(stack.place)["nodes"]) == {"cloud-1", "edge-1"}


def test_without_the_rights_of_root_nothing_is_made(stack: Stack, monkeypatch) -> None:
    # The number of nobody, and the right to read all files.
    words = ("setpriv", "--reuid", "65534", "--inh-caps", "+dac_override,+dac_read_search")
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv")
    script = stack.folder / "bin" / "pulumi"
    script.parent.mkdir()
    ambient = ("--ambient-caps", "+dac_override,+dac_read_search")
    command = " ".join([*words, *ambient, str(shutil.which("pulumi"))])
    script.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")

    refused = stack.up(code=1)

    assert "error: a local testbed needs root" in refused
    assert "Traceback" not in refused
    assert traces_of(stack.place.name) == []


@pytest.mark.parametrize("moment", ["run", "agent", "node"])
def test_an_up_that_was_killed_can_be_taken_up_again_or_destroyed(
    stack: Stack, moment: str
) -> None:
    mark = {
        "run": stack.place.run,
        "agent": stack.place.state,
        "node": stack.place.namespaces("cloud-1") / "net",
    }[moment]
    process = stack.start("up", "--yes", "--skip-preview")
    deadline = time.monotonic() + 240
    try:
        while not mark.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.001)
    finally:
        end(process)

    stack.release()
    stack.up()

    assert stack.preview() == []
    assert " 0% packet loss" in on_node(stack.place, "edge-5", "ping", "-c", "1", "cloud-1")
    stack.run("destroy", "--yes", "--skip-preview")
    assert traces_of(stack.place.name) == []
