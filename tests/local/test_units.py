# SPDX-License-Identifier: GPL-3.0-or-later
"""Units in real nodes: kept running, found again, and sharing their node's fate."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pkgctl import topology
from pkgctl.errors import TestbedError
from pkgctl.local import paths, removal, testbed
from pkgctl.local.agent import AgentClient
from pkgctl.nodeside import health, upkeep

from .conftest import on_node, traces_of
from .test_ansible import Bed

pytestmark = pytest.mark.root

EDGE, CLOUD = "edge-1", "cloud-1"
PATIENCE = 240.0
MIB = 1 << 20
# What services such as K3s leave on a node: each is there before it says that it is ready.
SERVICE = r"""
import os, socket, subprocess, sys, time
def run(*words):
    subprocess.run(words, check=True)
print("hello from", os.environ["WORD"], flush=True)
for key in sys.argv[1:]:
    if key == "child":
        subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(1000)"])
    if key == "nested":
        # As runtimes do: control groups below its own and elsewhere, in whatever hierarchy.
        for line in open("/proc/self/cgroup"):
            number, names, path = line.strip().split(":", 2)
            root = "/sys/fs/cgroup/" + (names.removeprefix("name=") or "unified")
            if os.path.isdir(root):
                for below in (os.environ["SYSTEM"] + "/unit-web/box/inner", os.environ["OWN"]):
                    os.makedirs(f"{root}/{below}", exist_ok=True)
        child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(1000)"])
        for name in os.listdir("/sys/fs/cgroup"):
            place = f"/sys/fs/cgroup/{name}/{os.environ['SYSTEM']}/unit-web/box/inner/cgroup.procs"
            try:
                open(place, "w").write(str(child.pid))
            except OSError:
                pass
    if key == "mess":
        os.makedirs("/run/boxes/one", exist_ok=True)
        run("mount", "-t", "tmpfs", "box", "/run/boxes/one")
        os.makedirs("/var/lib/boxes", exist_ok=True)
        run("mount", "-t", "tmpfs", "box", "/var/lib/boxes")
        run("mount", "--bind", "/etc", "/run/boxes/one")
        run("ip", "netns", "add", "box")
        run("ip", "link", "add", "cni0", "type", "bridge")
        run("ip", "link", "add", "veth0", "type", "veth", "peer", "name", "eth0", "netns", "box")
        run("ip", "link", "add", "flannel.1", "type", "vxlan", "id", "1", "dstport", "8472")
        run("nft", "add", "table", "ip", "KUBE-NAT")
        hook = "{ type nat hook postrouting priority 0; }"
        run("nft", "add", "chain", "ip", "KUBE-NAT", "post", hook)
if "late" in sys.argv:
    time.sleep(0.5)
if os.environ.get("NOTIFY_SOCKET"):
    talk = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    talk.sendto(b"READY=1\n", os.environ["NOTIFY_SOCKET"])
    open("/tmp/spoken", "w").close()
while True:
    time.sleep(1000)
"""
COMMAND = [sys.executable, "-S", "-E", "-c", SERVICE]


@pytest.fixture
def agent(duo: paths.Paths) -> Iterator[AgentClient]:
    client = AgentClient(duo)
    try:
        yield client
    finally:
        client.close()


def web(place: paths.Paths, *words: str, **changes: Any) -> dict[str, Any]:
    known = {
        "WORD": "web",
        "SYSTEM": place.system(EDGE),
        "OWN": f"{place.cgroup}/nodes/{EDGE}/pods/pod",
    }
    unit = {"name": "web", "command": [*COMMAND, *words], "environment": known, "notify": True}
    return {**unit, "restart_seconds": 0.2, "grace": 2.0, **changes}


def begin(agent: AgentClient, unit: Mapping[str, Any], node: str = EDGE) -> dict[str, Any]:
    agent.call("unit-set", node=node, unit=unit)
    agent.call("unit-start", node=node, name=unit["name"])
    return becomes(agent, "running", name=unit["name"])


def units(agent: AgentClient) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in agent.call("unit-list", lines=20)["units"]}


def becomes(
    agent: AgentClient, status: str, name: str = "web", pid: int | None = None
) -> dict[str, Any]:
    """Wait until a unit has a status, and another process than the one that is named."""
    deadline = time.monotonic() + PATIENCE
    while (found := units(agent)[name])["status"] != status or (pid and found["pid"] == pid):
        assert time.monotonic() < deadline, str(found)
        time.sleep(0.02)
    return found


def eventually(holds: Callable[[], object]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(holds())


def set_health(place: paths.Paths, word: str) -> None:
    with testbed.inside(place, EDGE) as node:
        if word == "running":
            health.change(node, layer="test", present=False)
        else:
            health.change(node, layer="test", health=word)


def drift(place: paths.Paths) -> list[str]:
    with testbed.inside(place, EDGE) as node:
        return health.converge(node, dry_run=True).actions


def groups(place: paths.Paths) -> list[str]:
    """Return the control groups of the testbed below system, and foreign ones in the node's own."""
    found = []
    for root in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()):
        for below in (f"{place.cgroup}/system", f"{place.cgroup}/nodes/{EDGE}"):
            found += [f"{at}/{name}" for at, names, _ in os.walk(root / below) for name in names]
    return sorted(each for each in found if not each.endswith("/session"))


def what_it_has(place: paths.Paths) -> dict[str, list[str]]:
    """Return the mounts, links, tables and named networks that are in the edge node."""
    pins = place.namespaces(EDGE)
    spaces = [f"--{'mount' if kind == 'mnt' else kind}={pins / kind}" for kind in ("net", "mnt")]

    def told(*words: str) -> list[str]:
        command = ["nsenter", *spaces, "--", *words]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=120
        ).stdout.splitlines()

    return {
        "mounts": sorted(line.split()[1] for line in told("cat", "/proc/self/mounts")),
        "links": sorted(line.split(":")[1].strip() for line in told("ip", "-o", "link")),
        "tables": sorted(told("nft", "list", "tables")),
        "files": told("ls", "-A", "/run"),
    }


def threads_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def is_alive(pid: int) -> bool:
    try:
        return threads_of(pid) not in "ZX"
    except OSError:
        return False


def test_a_unit_is_ready_when_it_says_so(agent: AgentClient, duo: paths.Paths) -> None:
    agent.call("unit-set", node=EDGE, unit=web(duo, "late", nofile=2048))
    begun = agent.call("unit-start", node=EDGE, name="web")["unit"]
    assert (begun["status"], begun["ready"]) == ("starting", False)

    found = becomes(agent, "running")

    assert found["ready"] and found["log"] == ["hello from web"]
    mine = Path(f"/proc/{found['pid']}/cgroup").read_text().splitlines()
    assert any(line.endswith(f":/{duo.system(EDGE)}/unit-web") for line in mine)
    assert not any(f"/nodes/{EDGE}" in line for line in mine)
    assert resource.prlimit(found["pid"], resource.RLIMIT_NOFILE) == (2048, 2048)
    assert Path(f"/proc/{found['pid']}/ns/net").stat() != Path("/proc/self/ns/net").stat()


def test_its_variables_come_from_files_that_are_read_at_each_start(
    agent: AgentClient, duo: paths.Paths
) -> None:
    on_node(duo, EDGE, "sh", "-c", "umask 077; echo \"WORD='first one'\" >/etc/web.env")
    files = ["/etc/web.env", "/etc/nothing.env"]
    begin(agent, web(duo, environment_files=files))
    on_node(duo, EDGE, "sh", "-c", "echo WORD=second >/etc/web.env")

    agent.call("unit-restart", node=EDGE, name="web")

    assert eventually(lambda: len(units(agent)["web"]["log"]) == 2)
    assert units(agent)["web"]["log"] == ["hello from first one", "hello from second"]
    assert "first one" not in str(agent.call("unit-list"))


def test_a_unit_that_is_killed_runs_again(agent: AgentClient, duo: paths.Paths) -> None:
    first = begin(agent, web(duo, kill="group"))

    os.kill(first["pid"], signal.SIGKILL)

    found = becomes(agent, "running", pid=first["pid"])
    assert (found["restarts"], found["exit"]) == (1, -9)
    assert found["error"].startswith("ended by signal 9")
    # Nothing that fails is tried more often than asked for.
    agent.call("unit-set", node=EDGE, unit=web(duo, command=["/bin/false"], restart_seconds=50))
    agent.call("unit-restart", node=EDGE, name="web")
    assert becomes(agent, "restarting")["error"] == "ended with status 1: hello from web"


def test_what_comes_before_it_may_fail(agent: AgentClient, duo: paths.Paths) -> None:
    before = [["/bin/false"], ["there-is-none"], ["touch", "/tmp/before"]]

    begin(agent, web(duo, pre=before))

    assert on_node(duo, EDGE, "ls", "/tmp/before") == "/tmp/before\n"
    assert units(agent)["web"]["log"][0] == "there-is-none: No such file or directory"


@pytest.mark.parametrize("kill", ["group", "process"])
def test_a_stop_ends_what_it_is_to_end(agent: AgentClient, duo: paths.Paths, kill: str) -> None:
    first = begin(agent, web(duo, "child", kill=kill))
    (child,) = children_of(first["pid"])

    agent.call("unit-stop", node=EDGE, name="web")

    assert becomes(agent, "stopped")["pid"] is None
    assert not is_alive(first["pid"])
    assert is_alive(child) == (kill == "process")
    agent.call("unit-remove", node=EDGE, name="web")
    assert eventually(lambda: "web" not in units(agent))
    assert not is_alive(child)
    assert groups(duo) == []
    assert not list(duo.run.rglob("web*"))


@contextmanager
def next_agent(place: paths.Paths, last: int) -> Iterator[AgentClient]:
    """Give a connection to the agent that comes after one that was killed."""

    def answers() -> bool:
        try:
            with AgentClient(place) as client:
                return bool(client.call("ping")["pid"] != last)
        except TestbedError:
            return False

    assert eventually(answers)
    with AgentClient(place) as client:
        yield client


def children_of(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_unit_that_does_not_end_is_killed_when_its_grace_is_over(
    agent: AgentClient, duo: paths.Paths
) -> None:
    stubborn = ["/bin/sh", "-c", "trap '' TERM; echo on; while :; do sleep 0.1; done"]
    first = begin(agent, web(duo, command=stubborn, notify=False, grace=0.5))
    assert eventually(lambda: units(agent)["web"]["log"] == ["on"])

    agent.call("unit-restart", node=EDGE, name="web")

    assert becomes(agent, "running", pid=first["pid"])["exit"] == -9


def test_a_unit_goes_on_when_the_agent_is_killed(duo: paths.Paths) -> None:
    with AgentClient(duo) as agent:
        first, pid = begin(agent, web(duo, "child", kill="process")), agent.call("ping")["pid"]
        os.kill(pid, signal.SIGKILL)

    with next_agent(duo, pid) as agent:
        found = units(agent)["web"]
        assert (found["status"], found["pid"], found["restarts"]) == ("running", first["pid"], 0)
        os.kill(first["pid"], signal.SIGKILL)
        assert becomes(agent, "running", pid=first["pid"])["exit"] is None


def test_what_a_unit_says_while_no_agent_runs_is_heard_by_the_next(duo: paths.Paths) -> None:
    with AgentClient(duo) as agent:
        agent.call("unit-set", node=EDGE, unit=web(duo, "late"))
        first = agent.call("unit-start", node=EDGE, name="web")["unit"]["pid"]
        pid = agent.call("ping")["pid"]
        # It speaks while the agent hears nothing, and is killed without having heard.
        os.kill(pid, signal.SIGSTOP)
    assert eventually(Path(f"/proc/{first}/root/tmp/spoken").exists)
    os.kill(pid, signal.SIGKILL)

    with next_agent(duo, pid) as agent:
        found = becomes(agent, "running")
        assert (found["pid"], found["restarts"]) == (first, 0)


def test_a_unit_that_ended_while_no_agent_ran_is_started_by_the_next(duo: paths.Paths) -> None:
    with AgentClient(duo) as agent:
        first, pid = begin(agent, web(duo)), agent.call("ping")["pid"]
        stopped = begin(agent, {**web(duo), "name": "idle"})
        agent.call("unit-stop", node=EDGE, name="idle")
        becomes(agent, "stopped", "idle")
    os.kill(pid, signal.SIGSTOP)
    os.kill(first["pid"], signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)

    with next_agent(duo, pid) as agent:
        becomes(agent, "running", pid=first["pid"])
        assert units(agent)["idle"]["status"] == "stopped"
        assert not is_alive(stopped["pid"])


@pytest.mark.parametrize("word", ["stopped", "crashed"])
def test_a_node_that_goes_down_loses_all_that_its_units_made(
    agent: AgentClient, duo: paths.Paths, word: str
) -> None:
    before = what_it_has(duo)
    first = begin(agent, web(duo, "child", "nested", "mess", kill="process"))
    mess = what_it_has(duo)
    assert {"cni0", "flannel.1"} < {*mess["links"]} and "table ip KUBE-NAT" in mess["tables"]
    assert {"/run/boxes/one", "/var/lib/boxes", "/run/netns/box"} < {*mess["mounts"]}
    there = [*children_of(first["pid"]), first["pid"]]
    assert len(there) == 3

    set_health(duo, word)

    assert not any(is_alive(pid) for pid in there)
    gone = what_it_has(duo)
    assert gone["links"] == before["links"]
    # What keeps its links closed.
    assert gone["tables"] == ["table inet pkgctl"]
    # Its data disk goes with it, and comes back with it.
    assert gone["mounts"] == [place for place in before["mounts"] if place != "/data"]
    assert gone["files"] == before["files"]
    assert groups(duo) == []
    assert drift(duo) == []
    assert becomes(agent, "off")["wanted"]
    with pytest.raises(TestbedError, match=f"node {EDGE} is {word}: its units are left as they"):
        agent.call("unit-restart", node=EDGE, name="web")

    set_health(duo, "running")

    becomes(agent, "running")
    assert "cni0" in what_it_has(duo)["links"]


def test_a_paused_node_has_its_units_stand_still(agent: AgentClient, duo: paths.Paths) -> None:
    ticking = ["/bin/sh", "-c", "while :; do echo tick; sleep 0.01; done"]
    first = begin(agent, web(duo, command=ticking, notify=False))
    log = duo.run / "logs" / "units" / EDGE / "web.log"
    assert eventually(lambda: log.exists() and log.stat().st_size > 0)

    set_health(duo, "paused")

    size = log.stat().st_size
    time.sleep(0.3)
    assert log.stat().st_size == size
    assert drift(duo) == []
    set_health(duo, "running")
    assert eventually(lambda: log.stat().st_size > size)
    assert units(agent)["web"]["pid"] == first["pid"]


def test_down_leaves_nothing(agent: AgentClient, duo: paths.Paths) -> None:
    begin(agent, web(duo, "child", "nested", "mess", kill="process"))
    pid = units(agent)["web"]["pid"]
    there = [*children_of(pid), pid]

    removal.down(duo)

    assert not any(is_alive(each) for each in there)
    assert traces_of(duo.name) == []
    assert not any(duo.cgroup in group for group in groups(duo))
    assert not Path("/run/netns/box").exists()


# The module, as Ansible has it called inside the node.


def keep(place: paths.Paths, check: bool = False, **changes: Any) -> dict[str, Any]:
    """Do what the module is told to, in a fork as the connection has it."""
    unit = {key: value for key, value in web(place).items() if key in upkeep.UNIT["argument_spec"]}
    spec = upkeep.UNIT["argument_spec"]
    defaults = {key: each.get("default") for key, each in spec.items()}
    options = {**defaults, **unit, "wait": PATIENCE, **changes}
    with testbed.inside(place, EDGE):
        return upkeep.keep(options, dry_run=check)


def test_the_module_starts_a_unit_once_and_again_when_it_differs(
    agent: AgentClient, duo: paths.Paths
) -> None:
    foreseen = keep(duo, check=True)
    assert foreseen["actions"] == ["declare web", "start web"] and units(agent) == {}

    first = keep(duo)
    assert first["actions"] == foreseen["actions"] and first["changed"]
    assert first["diff"] == foreseen["diff"]
    pid = becomes(agent, "running")["pid"]
    assert not keep(duo)["changed"]
    assert not keep(duo, check=True)["changed"]

    assert keep(duo, fingerprint="other", check=True)["actions"] == ["declare web", "restart web"]
    changed = keep(duo, fingerprint="other")
    assert changed["actions"] == ["declare web", "restart web"]
    again = units(agent)["web"]["pid"]
    assert again != pid and not is_alive(pid)
    assert not keep(duo, fingerprint="other")["changed"]

    assert keep(duo, fingerprint="other", state="restarted")["actions"] == ["restart web"]
    assert units(agent)["web"]["pid"] != again


def test_the_module_starts_again_what_was_only_declared(
    agent: AgentClient, duo: paths.Paths
) -> None:
    keep(duo)
    agent.call("unit-set", node=EDGE, unit=web(duo, fingerprint="new"))

    assert keep(duo, fingerprint="new")["actions"] == ["restart web"]
    assert not keep(duo, fingerprint="new")["changed"]


def test_the_module_stops_a_unit_and_removes_it(agent: AgentClient, duo: paths.Paths) -> None:
    keep(duo)
    pid = units(agent)["web"]["pid"]

    assert keep(duo, state="stopped", command=None)["actions"] == ["stop web"]
    assert not is_alive(pid)
    assert not keep(duo, state="stopped", command=None)["changed"]
    assert keep(duo)["actions"] == ["start web"]
    assert keep(duo, state="absent", command=None)["actions"] == ["remove web"]
    assert not keep(duo, state="absent", command=None)["changed"]
    assert units(agent) == {} and groups(duo) == []


def test_a_unit_that_is_not_ready_in_time_is_told_with_its_last_lines(duo: paths.Paths) -> None:
    failing = ["/bin/sh", "-c", "echo no token >&2; exit 1"]

    with pytest.raises(Exception, match=r"unit web is not ready after 0.5 s; the end of its log:"):
        keep(duo, command=failing, wait=0.5)


def test_no_value_of_a_variable_is_shown(agent: AgentClient, duo: paths.Paths) -> None:
    report = keep(duo, environment={"WORD": "hush"})

    assert "hush" not in str(report)
    assert "WORD=" in str(report["diff"])
    told = agent.call("unit-list")
    assert "hush" not in str(told)
    record = duo.node(EDGE) / "units" / "web.json"
    assert record.stat().st_mode & 0o077 == 0


def some(*names: str) -> topology.Topology:
    nodes = ", ".join(f"{{name: {name}, site: one, kind: box}}" for name in names)
    return topology.loads(
        "name: some\nsites: {one: {location: {latitude: 50, longitude: 8}, access: lan}}\n"
        f"kinds: {{box: {{cpu: 0.5, memory: 64Mi, pids: 64}}}}\nnodes: [{nodes}]\n"
    )


def test_a_playbook_keeps_a_unit(agent: AgentClient, duo: paths.Paths, tmp_path: Path) -> None:
    asked = {**web(duo), "wait": 120}
    steps: list[dict[str, Any]] = [
        {"check_mode": True},
        {},
        {},
        {"fingerprint": "x"},
        {"command": ["bin/web"]},
        {"become": True, "fingerprint": "x"},
        {"state": "absent"},
        {"state": "absent"},
    ]
    tasks = []
    for number, step in enumerate(steps):
        flags = {key: step.pop(key) for key in ("check_mode", "become") if key in step}
        flags |= {"become_method": "su"} if "become" in flags else {}
        name = {"name": f"Step {number}"}
        tasks.append({**name, "pkgctl.testbed.unit": {**asked, **step}, **flags})

    found = Bed(duo.name).tasks(tmp_path, EDGE, *tasks)

    assert [each.get("actions") for each in found] == [
        ["declare web", "start web"],
        ["declare web", "start web"],
        [],
        ["declare web", "restart web"],
        None,
        [],
        ["remove web"],
        [],
    ], found
    assert [bool(each["changed"]) for each in found] == [
        *(True, True, False, True),
        *(False, False, True, False),
    ]
    assert found[4]["msg"].startswith("unit web: command: 'bin/web' is neither a path")
    assert units(agent) == {}


def test_a_node_that_is_removed_takes_its_units_along(place: paths.Paths) -> None:
    testbed.up(some(EDGE, "edge-2"), place)
    with AgentClient(place) as agent:
        pid = begin(agent, web(place, "child", kill="process"))["pid"]
        other = begin(agent, {**web(place), "name": "other"}, "edge-2")["pid"]
        there = [*children_of(pid), pid]

        testbed.up(some("edge-2"), place)

        assert not any(is_alive(each) for each in there)
        assert is_alive(other)
        assert not any(f"system/{EDGE}" in group for group in groups(place))
        testbed.up(some(EDGE, "edge-2"), place)
        assert eventually(lambda: units(agent).keys() == {"other"})


def test_a_log_that_has_grown_long_is_begun_anew(agent: AgentClient, duo: paths.Paths) -> None:
    loud = ["/bin/sh", "-c", "head -c 9000000 /dev/zero | tr '\\0' 'x'; echo; exec sleep 1000"]
    begin(agent, web(duo, command=loud, notify=False))
    log = duo.run / "logs" / "units" / EDGE / "web.log"
    assert eventually(lambda: log.exists() and log.stat().st_size == 9000001)

    agent.call("unit-restart", node=EDGE, name="web")

    old = log.with_suffix(".old")
    assert eventually(lambda: old.exists() and old.stat().st_size == 8 * MIB)
