# SPDX-License-Identifier: GPL-3.0-or-later
"""The data network between hosts: what is run where."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from pkgctl.errors import TestbedError
from testbed import overlay

PROPS = {"host": "one", "uri": "qemu:///system", **overlay.plan("lab", ["192.0.2.1", "192.0.2.2"])}


def test_names_fit_the_kernel_and_differ_between_testbeds():
    other = overlay.plan("other", ["192.0.2.1"])

    for key in ("bridge", "device"):
        assert len(PROPS[key]) <= 15
        assert PROPS[key] != other[key]
    assert 0 < PROPS["number"] < 2**24


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [(["192.0.2.1", "192.0.2.2"], 1450), (["2001:db8::1", "2001:db8::2"], 1430)],
)
def test_packets_leave_room_for_those_that_carry_them(addresses, expected):
    assert overlay.mtu(addresses) == expected


def test_a_remote_host_is_reached_as_libvirt_reaches_it():
    command = overlay.command("qemu+ssh://root@192.0.2.2:2222/system")

    assert command[0] == "ssh"
    assert "ssh://root@192.0.2.2:2222" in command
    assert "StrictHostKeyChecking=yes" in command


def test_a_host_that_ssh_cannot_reach_is_refused():
    with pytest.raises(TestbedError, match="names no machine for SSH"):
        overlay.command("qemu+tls://192.0.2.2/system")


def test_numbers_are_whole_though_pulumi_gives_floats():
    said = overlay.script({**PROPS, "number": 7.0, "mtu": 1450.0}, overlay._CREATE)

    assert " id 7 " in said
    assert "mtu 1450 " in said


@pytest.mark.parametrize("text", [overlay._CREATE, overlay._DELETE])
def test_what_a_host_runs_is_a_shells(text):
    said = overlay.script(PROPS, text)

    subprocess.run(["sh", "-n"], input=said, text=True, check=True)
    assert "{" not in said


@pytest.mark.root
def test_the_ends_of_two_hosts_carry_packets_and_go(tmp_path):
    if not shutil.which("unshare") or subprocess.run(["unshare", "-n", "true"]).returncode:
        pytest.skip("needs root, to make network namespaces")
    ends = {
        name: overlay.script({**overlay.plan("lab", addresses)}, overlay._CREATE)
        for name, addresses in {
            "a": ["192.0.2.1", "192.0.2.2"],
            "b": ["192.0.2.2", "192.0.2.1"],
        }.items()
    }
    gone = overlay.script(PROPS, overlay._DELETE)
    bridge = PROPS["bridge"]
    # One namespace is a host, the other is made beside it and ends with its sleep.
    said = subprocess.run(
        ["unshare", "-n", "sh", "-es"],
        input=f"""
unshare -n sleep 30 & other=$!
until [ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
inside="nsenter -t $other -n"
trap 'kill $other' EXIT
ip link add under type veth peer name under netns $other
ip address add 192.0.2.1/24 dev under; ip link set under up
$inside ip address add 192.0.2.2/24 dev under; $inside ip link set under up
sh -s <<'A'
{ends["a"]}
A
sh -s <<'A'
{ends["a"]}
A
$inside sh -s <<'B'
{ends["b"]}
B
ip address add 10.77.0.1/16 dev {bridge}
$inside ip address add 10.77.0.2/16 dev {bridge}
ping -c 2 -W 2 -q -M do -s 1400 10.77.0.2
sh -s <<'A'
{gone}
A
ip -br link
""",
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert said.returncode == 0, said.stderr
    assert " 0% packet loss" in said.stdout
    assert bridge not in said.stdout.rpartition("packet loss")[2]
