# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster from nothing to nothing where no outside address can be reached."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkgctl.local import removal

from . import roles
from .roles import LEFT, Lab
from .standin import pack

pytestmark = [pytest.mark.root, pytest.mark.kubernetes(*pack.NEEDS)]

TOPOLOGY = """
name: solo
sites: {cloud: {access: lan}}
kinds:
  node: {cpu: 1, memory: 256Mi, disks: {data: {size: 16Mi, mount: /data}}}
nodes: [{name: cloud-1, site: cloud, kind: node, role: cloud}]
"""
# How often the kernel was asked for a way that it does not have, by IPv4 and IPv6.
COUNTS = "nstat -asz IpOutNoRoutes Ip6OutNoRoutes"
TRY = "import socket; socket.create_connection(('192.0.2.1', 80), 2)"


@pytest.fixture
def alone() -> Iterator[list[str]]:
    """Words that have a command run where there is nothing but the loopback."""
    holder = subprocess.Popen(
        ["unshare", "-n", "sh", "-c", "ip link set lo up && echo up && exec sleep 3600"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "up\n"
        yield ["nsenter", f"--net=/proc/{holder.pid}/ns/net"]
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def refused(within: list[str]) -> int:
    """Return how often somebody there has asked for a way to elsewhere."""
    told = run([*within, *COUNTS.split()]).stdout
    lines = [line.split() for line in told.splitlines() if line.startswith("Ip")]
    assert len(lines) == 2, told
    return sum(int(words[1]) for words in lines)


def run(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=240, check=False)


def test_all_of_it_works_without_a_route(
    alone: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert "Network is unreachable" in run([*alone, "python3", "-c", TRY]).stderr
    before = refused(alone)
    assert before > 0
    release, bundle, file = pack.cached(), tmp_path / "bundle", tmp_path / "solo.yaml"
    file.write_text(TOPOLOGY)
    given = os.environ.get(roles.VARIABLE)
    lab = Lab(f"offline-{os.getpid()}", tmp_path / "bundles", within=alone)
    try:
        if not given:
            words = ("cluster", "bundle", pack.VERSION, "--from", str(release))
            lab.said(*words, "--to", str(bundle))
            # As somebody hands in a bundle of K3s itself.
            monkeypatch.setenv(roles.VARIABLE, str(bundle))
        lab.releases = roles.Releases(tmp_path)
        lab.said("up", str(file))
        assert lab.changed("install") == "changed: cloud-1"
        assert lab.ready() == {"cloud-1"}
        assert {each["version"] for each in lab.nodes().values()} == {lab.releases.version()}
        lab.start_pods("cloud-1")
        assert lab.said("cluster", "reset") == "changed: cloud-1"
        assert lab.on("cloud-1", LEFT) == ""
        lab.said("down")
        assert refused(alone) == before
    finally:
        removal.down(lab.place)


def test_bundles_that_are_handed_in_are_what_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv(roles.VARIABLE, raising=False)
    made = roles.Releases(tmp_path)
    folders = [made.bundle(number) for number in (1, 2)]
    monkeypatch.setenv(roles.VARIABLE, ":".join(map(str, folders)))

    given = roles.Releases(tmp_path / "given")

    assert [given.version(number) for number in (0, 1)] == list(roles.VERSIONS[1:])
    assert (given.bundle() / "amd64" / "busy.tar").is_file()
    with pytest.raises(pytest.skip.Exception, match=r"needs 3 releases, .* names 2"):
        given.bundle(2)
