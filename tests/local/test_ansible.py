# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks, modules, connection and inventory on a testbed of their own."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pkgctl.local import paths
from pkgctl.local import testbed as local
from pkgctl.nodeside import cgroups, parts, specifications
from tests.conformance.subjects import Run

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent
# The tools of the environment are found by their full path only, as when nobody activated it.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PATIENCE = 120.0
# Where everything is tested, every module says in check mode too what its action says.
IS_THOROUGH = bool(os.environ.get("CI"))
SHOW = """
tc qdisc show; tc class show dev eth0; nft list ruleset; cat /proc/self/mounts
for store in $(ls /run/pkgctl/*.json | grep -v outage); do
  [ "$(cat "$store")" = "{}" ] || { echo "$store"; cat "$store"; echo; }
done
"""


@dataclass(frozen=True)
class Bed:
    """A running testbed."""

    name: str

    @property
    def place(self) -> paths.Paths:
        """Return its places."""
        return paths.paths(self.name)

    @property
    def is_disturbed(self) -> bool:
        """Return whether any node carries a layer beside its base."""
        nodes = Path(f"/run/pkgctl/{self.name}/nodes")
        stores = [
            path
            for kind in ("links", "quota", "disk", "health", "stress")
            for path in nodes.glob(f"*/{kind}.json")
        ]
        return any(json.loads(store.read_text()).keys() - {"base"} for store in stores)

    def layers(self, node: str) -> set[str]:
        """Return the names of a node's layers, seen from outside, as it may be down."""
        stores = Path(f"/run/pkgctl/{self.name}/nodes/{node}").glob("*.json")
        return {
            layer
            for store in stores
            if store.stem in ("links", "quota", "disk", "health", "stress")
            for layer in json.loads(store.read_text())
        }

    def heal(self) -> None:
        """Take every layer away, by what the playbook heal.yml calls at its end."""
        known = specifications.LAYER["argument_spec"]
        defaults = {name: each.get("default") for name, each in known.items()}
        for node in local.read_state(self.place)["nodes"]:
            with local.inside(self.place, node):
                every = {**defaults, "layer": parts.EVERY_LAYER, "state": "absent"}
                parts.set_layer(every, dry_run=False)

    def run(self, tool: str, *arguments: str, folder: Path = ROOT / "ansible") -> Run:
        """Run a tool of the environment on this testbed."""
        environment = {"PATH": PATH, "HOME": os.environ.get("HOME", "/root"), "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            [str(TOOLS / tool), *arguments],
            cwd=folder,
            env={**environment, "PKGCTL_TESTBED": self.name, "COLUMNS": "400"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Run(done.returncode, done.stdout, done.stderr)

    def play(self, line: str) -> Run:
        """Run ansible-playbook with arguments as a user types them."""
        run = self.run("ansible-playbook", *line.split())
        assert run.status == 0, run.output + run.errors
        return run

    def inside(self, node: str, *command: str) -> str:
        """Return what a command prints inside a node."""
        run = self.run("pkgctl", "exec", node, "--", *command)
        assert run.status == 0, run.output + run.errors
        return run.output

    def task(self, node: str, module: str, /, **options: Any) -> dict[str, Any]:
        """Return the result of one task on a node."""
        with tempfile.TemporaryDirectory() as folder:
            run = self.run(
                "ansible", node, "-m", module, "-a", json.dumps(options), "--tree", folder
            )
            path = Path(folder, node)
            assert path.exists(), run.output + run.errors
            return {"failed": run.status != 0, **json.loads(path.read_text())}

    def tasks(self, folder: Path, node: str, *tasks: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the results of tasks on a node, each of which may fail, from one play."""
        names = [f"result_{number}" for number in range(len(tasks))]
        steps = [
            {**task, "register": name, "ignore_errors": True}
            for name, task in zip(names, tasks, strict=True)
        ]
        words = f"{{{{ [{', '.join(names)}] | to_json | b64encode }}}}"
        tell = {"ansible.builtin.debug": {"msg": words}}
        run = self.play(str(playbook(folder, node, [*steps, tell])))
        (told,) = re.findall(r"msg: (\S+)\n", run.output[run.output.rindex("TASK [") :])
        return list(json.loads(base64.b64decode(told)))

    def state(self, node: str) -> list[str]:
        """Return all that a disturbance can change on a node, as the system's own tools show it."""
        with local.inside(self.place, node):
            done = subprocess.run(["sh", "-c", SHOW], capture_output=True, text=True, check=True)
        shown = done.stdout + limits(f"pkgctl/{self.name}/nodes/{node}")
        # The number of a loop device, the order of a listing and a counter of packets mean nothing.
        return sorted(re.sub(r"/dev/loop\d+|_stat \d+", "", shown).splitlines())


def limits(group: str) -> str:
    """Return the limits of a control group, of either version."""
    names = ("cpu.cfs_quota_us", "memory.limit_in_bytes", "cpu.max", "memory.max", "pids.max")
    throttles = ("io.max", "blkio.throttle.read_bps_device", "blkio.throttle.write_bps_device")
    lines = []
    # Not by `**`: the groups of other testbeds come and go meanwhile.
    for folder in sorted(cgroups.group(group).folders()):
        for name in (*names, *throttles):
            with contextlib.suppress(FileNotFoundError):
                lines.append(f"{folder}/{name}: {(folder / name).read_text().strip()}")
    assert lines
    return "\n".join(lines)


@pytest.fixture(scope="module")
def testbed() -> Iterator[Bed]:
    yield from bring_up("three-sites", f"test-ansible-{os.getpid()}")


def bring_up(topology: str, name: str) -> Iterator[Bed]:
    made = Bed(name)
    try:
        up = made.run("pkgctl", "up", topology, "--name", name, folder=ROOT)
        assert up.status == 0, up.output + up.errors
        yield made
    finally:
        down = made.run("pkgctl", "down", "--name", name, folder=ROOT)
    assert down.status == 0, down.output + down.errors


@pytest.fixture
def bed(testbed: Bed) -> Iterator[Bed]:
    """Give a test the testbed as it was made, and heal what the test leaves."""
    yield testbed
    if testbed.is_disturbed:
        testbed.heal()
        assert not testbed.is_disturbed


# The inventory


def test_the_inventory_lists_the_nodes_in_their_groups(bed):
    run = bed.run("ansible-inventory", "--graph", "site_edge_a")

    assert run.errors == ""
    assert re.findall(r"--(\S+)", run.output) == ["edge-1", "edge-2", "edge-3"]


def test_without_a_testbed_a_playbook_says_what_to_do():
    run = Bed("there-is-none").run("ansible-playbook", "perturb.yml", "-e", "bw=5mbit")

    assert run.status != 0
    assert "msg: 'no testbed is up: run pkgctl up (there is no " in run.output


# The connection


def test_a_command_runs_in_the_namespaces_and_under_the_limits_of_its_node(bed, tmp_path):
    script = "hostname; ip -o -4 address show eth0; cat /proc/self/cgroup"
    big = "cat; head -c 3000000 /dev/zero | tr '\\0' x"

    inside, without, whole = bed.tasks(
        tmp_path,
        "edge-1",
        {"ansible.builtin.shell": {"cmd": script}},
        {"ansible.builtin.shell": {"cmd": script}, "vars": {"pkgctl_limits": 0}},
        # Input ends, and a big output arrives whole.
        {"ansible.builtin.shell": {"cmd": big}},
    )

    assert inside["stdout"].startswith("edge-1\n")
    assert " 10.77." in inside["stdout"]
    assert f"/pkgctl/{bed.name}/nodes/edge-1/session" in inside["stdout"]
    assert without["stdout"].startswith("edge-1\n")
    assert f"/pkgctl/{bed.name}/" not in without["stdout"]
    assert whole["stdout"] == "x" * 3_000_000


def test_modules_work_with_and_without_pipelining_and_become(bed, tmp_path):
    tasks = [
        {
            "ansible.builtin.command": {"cmd": "id -un"},
            "become": become,
            "become_method": "su",
            "vars": {"ansible_pipelining": pipelining},
        }
        for pipelining in (True, False)
        for become in (False, True)
    ]

    assert [each["stdout"] for each in bed.tasks(tmp_path, "edge-1", *tasks)] == ["root"] * 4


def test_files_travel_into_a_node_and_back_unchanged_and_only_there(bed, tmp_path):
    data = os.urandom(3 << 20)
    (tmp_path / "sent").write_bytes(data)
    copy = {"src": f"{tmp_path}/sent", "dest": "/root/got it"}
    fetch = {"src": "/root/got it", "dest": f"{tmp_path}/back", "flat": True}

    sent, again, back, missing = bed.tasks(
        tmp_path,
        "edge-1",
        {"ansible.builtin.copy": copy},
        {"ansible.builtin.copy": copy},
        {"ansible.builtin.fetch": fetch},
        {"ansible.builtin.fetch": {**fetch, "dest": f"{tmp_path}/x"}, "delegate_to": "edge-2"},
    )

    assert (sent["changed"], again["changed"], back["failed"]) == (True, False, False)
    assert (tmp_path / "back").read_bytes() == data
    assert not Path("/root/got it").exists()
    assert missing["failed"]


def test_a_task_that_takes_too_long_leaves_no_process_behind(bed, tmp_path):
    task = {"ansible.builtin.raw": "sleep 1234.5 & sleep 1234.5", "timeout": 1}
    book = playbook(tmp_path, "edge-1", [task])

    run = bed.run("ansible-playbook", str(book))

    assert run.status != 0
    wait_until(lambda: "1234.5" not in bed.inside("edge-1", "ps", "-eo", "args"))


def test_a_node_that_is_gone_is_unreachable_in_one_clear_line(bed):
    run = bed.run("ansible", "edge-1", "-m", "ping", "-e", "pkgctl_namespaces=/run/pkgctl/gone")

    assert run.status != 0
    message = "node edge-1 is not there: /run/pkgctl/gone/net is no namespace; run pkgctl up"
    assert message in run.output
    assert "Traceback" not in run.output + run.errors


# The modules


def playbook(folder: Path, hosts: str, tasks: list[dict[str, Any]]) -> Path:
    path = folder / "book.yml"
    path.write_text(json.dumps([{"hosts": hosts, "gather_facts": False, "tasks": tasks}]))
    return path


def step(
    module: str, options: Mapping[str, Any], *, changes: bool, **keywords: Any
) -> dict[str, Any]:
    failed = f"it is failed or it.changed != {str(changes).lower()}"
    return {module: {**options}, "register": "it", "failed_when": failed, **keywords}


LIVES = [
    (
        "link",
        {"egress": {"cloud-1": {"rate": "2mbit"}}, "ingress": {"*": {"delay": "5ms"}}},
        {"egress": {"cloud-1": {"rate": "1mbit"}}},
    ),
    ("quota", {"cpu": "100m", "memory": "96Mi", "io": "1Mi"}, {"pids": 64}),
    ("disk", {"disk": "data", "condition": "readonly"}, {"condition": "unmounted"}),
    ("health", {"health": "paused"}, {"health": "crashed"}),
    ("stress", {"cpu": "0.5"}, {"memory": "8Mi"}),
    (
        "layer",
        {"link": {"ingress": {"edge-2": {"loss": "10%"}}}, "disk": {"condition": "unmounted"}},
        {"quota": {"cpu": "0.1"}},
    ),
]


@pytest.mark.parametrize("as_module", [False, True], ids=["action", "module"])
@pytest.mark.parametrize(("name", "first", "second"), LIVES, ids=[life[0] for life in LIVES])
def test_a_module_predicts_creates_repeats_changes_and_removes(
    bed, tmp_path, name, first, second, as_module
):
    if as_module and name == "health":
        pytest.skip("no module starts on a node that is down; the action does the work")
    module = f"pkgctl.testbed.{name}"
    gone = {"layer": "life", "state": "absent"}
    before = bed.state("edge-1")
    stores = f"lookup('ansible.builtin.pipe', 'cat {bed.place.node('edge-1')}/*.json')"
    # The check mode of a module is seen by its first step.
    predicts = [{"check_mode": True}] * (IS_THOROUGH or not as_module)
    steps = [
        step(module, {"layer": "life", **first}, changes=True, check_mode=True),
        stored(f"'life' not in {stores}"),
        step(module, {"layer": "life", **first}, changes=True),
        step(module, {"layer": "life", **first}, changes=False),
        *(step(module, {"layer": "life", **first}, changes=False, **each) for each in predicts),
        step(module, {"layer": "life", **second}, changes=True),
        *(step(module, gone, changes=True, **each) for each in predicts),
        stored(f"'life' in {stores}"),
        step(module, gone, changes=True),
        step(module, gone, changes=False),
    ]
    become_root = {"ansible_become": True, "ansible_become_method": "su", "pkgctl_limits": False}
    way = ("-e", json.dumps(become_root if as_module else {}))

    run = bed.run("ansible-playbook", str(playbook(tmp_path, "edge-1", steps)), *way)

    assert run.status == 0, run.output + run.errors
    assert bed.layers("edge-1") == {"base"}
    assert bed.state("edge-1") == before


def stored(expression: str) -> dict[str, Any]:
    return {"ansible.builtin.assert": {"that": expression}}


def test_layers_lie_on_one_another_and_each_goes_by_itself(bed, tmp_path):
    tasks = [
        step("pkgctl.testbed.quota", {"layer": name, "cpu": cpu}, changes=True)
        for name, cpu in (("one", "0.2"), ("two", "0.1"))
    ]
    before = cores(bed)
    bed.play(str(playbook(tmp_path, "edge-1", tasks)))
    both = cores(bed)

    bed.play("heal.yml -e name=two")
    one = cores(bed)
    bed.play("heal.yml -e name=one")

    assert (both, one, cores(bed)) == (0.1, 0.2, before)


def cores(bed: Bed) -> float:
    """Return the cores that edge-1 may use."""
    text = limits(f"pkgctl/{bed.name}/nodes/edge-1")
    return int(re.search(r"cpu\.(?:cfs_quota_us|max): (\d+)", text)[1]) / 100_000


def test_a_disk_in_use_is_refused_and_its_user_named(bed):
    with holding(bed, "edge-1", "/data"):
        told = bed.task("edge-1", "pkgctl.testbed.disk", condition="unmounted")

    assert told["failed"]
    assert re.search(r"/data .*is in use by sleep \(pid \d+", told["msg"])


def test_what_one_node_refuses_is_done_to_none(bed):
    before = {node: bed.state(node) for node in ("edge-1", "edge-2")}

    with holding(bed, "edge-2", "/data"):
        words = ("-e", "node=edge-1,edge-2", "-e", "disk=unmounted", "-e", "cpu=0.1")
        run = bed.run("ansible-playbook", "perturb.yml", *words)

        assert run.status == 2
        assert "/data is in use by sleep" in run.output
        assert bed.layers("edge-1") == bed.layers("edge-2") == {"base"}
    assert {node: bed.state(node) for node in before} == before


@contextlib.contextmanager
def holding(bed: Bed, node: str, folder: str) -> Iterator[None]:
    script = f"cd {folder} && echo ready && exec sleep 60"
    with running(bed, node, "sh", "-c", script) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield


@contextlib.contextmanager
def running(bed: Bed, node: str, *command: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command inside a node while the block runs."""
    process = subprocess.Popen(
        [str(TOOLS / "pkgctl"), "exec", "--name", bed.name, node, "--", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


# The playbooks, literally


LINES = [
    ("-e bw=5mbit", 7),
    ("-e src=edge-1 -e dst=cloud-1 -e delay=40ms -e loss=1%", 2),
    ("-e node=edge-2 -e cpu=0.2 -e mem=128Mi -e fill=50% -e slow=20ms", 1),
    ("-e src=edge-a -e dst=cloud -e direction=to -e bw=1mbit -e name=slow", 5),
    ("-e site=edge-b -e partition=true", 7),
    ("-e src=edge-1 -e loss=2% -e burst=5 -e duplicate=1% -e delay=5ms -e reorder=1%", 7),
    ("-e node=edge-2 -e health=isolated", 7),
    ("-e node=edge-2 -e disk=detached", 1),
]


@pytest.mark.parametrize(("words", "hosts"), LINES, ids=[line for line, _ in LINES])
def test_a_disturbance_predicts_acts_once_and_heals_to_exactly_what_was(bed, words, hosts):
    before = {node: bed.state(node) for node in ("edge-1", "edge-2", "cloud-1")}

    foreseen = bed.play(f"perturb.yml {words} --check --diff")
    unchanged = {node: bed.state(node) for node in before}
    # Each twice in one run, whose recap counts both.
    acting = bed.play(f"perturb.yml perturb.yml {words} --diff")
    during = {node: bed.state(node) for node in before}
    healing = bed.play("heal.yml heal.yml")

    assert unchanged == before
    assert diffs(foreseen) == diffs(acting) != []
    assert len(acting.changed) == hosts
    assert set(acting.changed.values()) == {1} == set(foreseen.changed.values())
    assert during != before
    assert sum(healing.changed.values()) == hosts
    assert set(healing.changed.values()) <= {0, 1}
    assert {node: bed.state(node) for node in before} == before
    assert "WARNING" not in acting.output + acting.errors


def diffs(run: Run) -> list[str]:
    return sorted(line for line in run.output.splitlines() if re.match(r"[+-](?![+-])", line))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("-e bandwidht=5mbit", "bandwidht: unknown word; did you mean bw?"),
        ("-e src=edge-11 -e bw=5mbit", "src: no node, site, role or kind is called"),
        ("", "nothing to do: give one of"),
    ],
)
def test_words_that_make_no_sense_stop_the_play_before_any_node(bed, words, message):
    run = bed.run("ansible-playbook", "perturb.yml", *words.split())

    assert run.status != 0
    assert message in run.output
    assert run.changed == {}
    assert "Traceback" not in run.output + run.errors


def test_variables_for_ansible_and_for_the_inventory_are_let_through(bed):
    bed.play("perturb.yml -e bw=5mbit -e node=edge-1 -e ansible_verbosity=0 -e pkgctl_limits=true")


def test_a_refused_part_leaves_the_others_undone(bed):
    before = bed.state("edge-1")

    with holding(bed, "edge-1", "/data"):
        words = "-e node=edge-1 -e mem=64Ki -e disk=unmounted -e bw=1mbit"
        run = bed.run("ansible-playbook", "perturb.yml", *words.split())

    assert run.status != 0
    assert "edge-1 uses" in run.output
    assert bed.state("edge-1") == before


def test_base_takes_everything_away_and_looks_again(bed):
    before = bed.state("edge-1")
    bed.play("perturb.yml -e node=edge-1 -e cpu=0.1 -e bw=1mbit -e disk=readonly")

    # Twice in one run, whose recap counts both.
    run = bed.play("base.yml base.yml")

    assert run.changed["edge-1"] == 1
    assert set(run.changed.values()) <= {0, 1}
    assert not bed.is_disturbed
    assert bed.state("edge-1") == before


def test_healing_can_be_confined_to_a_node(bed):
    bed.play("perturb.yml -e cpu=0.1")

    run = bed.play("heal.yml -e node=edge-2")

    assert run.changed == {"edge-2": 1}


def test_a_disturbance_with_a_duration_begins_and_ends_by_itself(bed):
    before = bed.state("edge-1")
    words = "-e node=edge-1 -e cpu=0.1 -e name=brief -e start=1s -e duration=2s"

    # Watched from the start: on a busy machine all is over before the playbook is.
    with ThreadPoolExecutor() as pool:
        begun = pool.submit(wait_until, lambda: bed.state("edge-1") != before)
        run = bed.play(f"perturb.yml {words}")
        begun.result()

    assert run.changed["edge-1"] == 2
    wait_until(lambda: bed.state("edge-1") == before)


def test_a_named_timeline_is_armed_once_and_waits(bed):
    words = "-e node=edge-1 -e cpu=0.1 -e timeline=later -e start=1s -e duration=2s"

    armed, again = bed.play(f"perturb.yml {words}"), bed.play(f"perturb.yml {words}")
    dropped = bed.task("edge-1", "pkgctl.testbed.timeline", name="later", state="absent")

    assert (armed.changed, again.changed) == ({"edge-1": 1}, {"edge-1": 0})
    assert (dropped["changed"], dropped["steps"]) == (True, 1)


def wait_until(holds: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)
