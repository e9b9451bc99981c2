# SPDX-License-Identifier: GPL-3.0-or-later
"""Its command line, which is K3s's."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import agent, containers, settings, tokens, unpacking
from .agent import Agent
from .api import RefusedError
from .children import Children
from .door import Door
from .saying import Ready, say
from .server import KUBECONFIG, Server, apply_manifests

_USAGE = """k3s, the stand-in: K3s's contract for tests, on Kubernetes' own programs

k3s server [FLAGS]      a server, and a node
k3s agent [FLAGS]       a node
k3s kubectl [WORDS]
k3s ctr [WORDS]
k3s --version
"""
_CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
_MERGE = "application/merge-patch+json"


def main() -> int:
    """Do what a word asks for."""
    called = Path(sys.argv[0]).name
    words = [called, *sys.argv[1:]] if called in ("kubectl", "ctr", "crictl") else sys.argv[1:]
    word, rest = (words[0], words[1:]) if words else ("", [])
    version = unpacking.about()["version"]
    try:
        if word in ("--version", "-v", "version"):
            print(f"k3s version {version} (standin)\npython version {sys.version.split()[0]}")
            return 0
        if word in ("kubectl", "ctr"):
            _become(word, rest)
        if word in ("server", "agent"):
            return _run(word, settings.read(word, rest, os.environ), version)
    except settings.UsageError as error:
        say(str(error), "fatal")
        return 1
    if word in ("", "-h", "--help", "help"):
        print(_USAGE)
        return 0
    say(f"the stand-in for K3s has no {word}", "fatal")
    return 1


def _become(word: str, rest: Sequence[str]) -> None:
    programs = unpacking.unpack(settings.data_dir(os.environ))
    around = containers.environment() if word == "ctr" else dict(os.environ)
    if word == "kubectl":
        around.setdefault("KUBECONFIG", KUBECONFIG)
    os.execve(programs / word, [word, *rest], around)


def _run(command: str, told: settings.Settings, version: str) -> int:
    os.umask(0o022)
    token, url = tokens.given(told, "token"), told.text("server")
    if command == "agent" and not (token and url):
        raise settings.UsageError(f"--{'server' if token else 'token'} is required")
    ready = Ready()
    say(f"Starting k3s {command} {version} (the stand-in for K3s)")
    children = Children(unpacking.unpack(told.data_dir))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: children.over.set())
    try:
        if command == "server":
            _serve(told, children, version, ready)
        else:
            _be_node(Agent(told, children, version), url, token)
            ready.tell()
        return agent.wait_for_end(children)
    except InterruptedError:
        return 0
    except (OSError, RuntimeError) as error:
        refused = f"{error.status}: " if isinstance(error, RefusedError) else ""
        say(f"{refused}{error}", "fatal")
        return 1
    finally:
        children.over.set()
        children.stop()


def _be_node(node: Agent, url: str, token: str) -> None:
    node.join(url, token)
    node.start()
    say("k3s agent is up and running")


def _serve(told: settings.Settings, children: Children, version: str, ready: Ready) -> None:
    server = Server(told, children, version, agent.node_ip(told))
    server.prepare()
    server.start()
    door = Door(server)
    door.open()
    say("k3s is up and running")
    ready.tell()
    seen: dict[Path, float] = {}
    for job, pause in ((lambda: apply_manifests(server, seen), 5), (_keep_nodes(server, door), 1)):
        threading.Thread(target=_often, args=(children, job, pause), daemon=True).start()
    if not told.is_on("disable-agent"):
        token = tokens.format_token(server.certificate, "server", server.token)
        _be_node(Agent(told, children, version), f"https://127.0.0.1:{told.port}", token)


def _keep_nodes(server: Server, door: Door) -> Any:
    """Label this node for what it is, and forget the passwords of nodes that are deleted."""
    wanted = {_CONTROL_PLANE: "true"}
    if server.in_cluster:
        wanted["node-role.kubernetes.io/etcd"] = "true"

    def seen(node: dict[str, Any]) -> None:
        name, labels = node["metadata"]["name"], node["metadata"].get("labels", {})
        if name == server.name and not wanted.items() <= labels.items():
            body = {"metadata": {"labels": wanted}}
            server.admin().ask("PATCH", f"/api/v1/nodes/{name}", body, _MERGE)

    return lambda: agent.watch_nodes(server.admin(), seen, door.forget)


def _often(children: Children, job: Any, pause: float) -> None:
    while not children.over.is_set():
        try:
            job()
        except (OSError, RuntimeError, ValueError) as error:
            say(f"{type(error).__name__}: {error}; trying again", "warning")
        children.over.wait(pause)
