# SPDX-License-Identifier: GPL-3.0-or-later
"""What is against a machine as a node of a K3s cluster."""

from __future__ import annotations

import os
import socket
import time

import pytest

from plugins.module_utils import errors, k3schecks
from plugins.module_utils.k3schecks import Port, taken

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid inode\n"
LINE = (
    "   0: 00000000:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 0 0 0 {inode}\n"
)


@pytest.fixture
def proc(tmp_path):
    """What the kernel shows of three sockets, each with its process."""
    (tmp_path / "net").mkdir()
    tcp = LINE.format(port=6443, state="0A", inode=71) + LINE.format(port=80, state="01", inode=72)
    udp = LINE.format(port=8472, state="07", inode=73) + LINE.format(port=53, state="07", inode=0)
    (tmp_path / "net" / "tcp").write_text(HEADER + tcp)
    (tmp_path / "net" / "udp6").write_text(HEADER + udp)
    process(tmp_path, 10, "nginx", "0::/system.slice/nginx.service", 71)
    process(tmp_path, 11, "flanneld", "4:memory:/pkgctl/t/system/n/unit-k3s-agent/x", 73)
    return tmp_path


def process(proc, pid, name, groups, inode):
    folder = proc / str(pid)
    (folder / "fd").mkdir(parents=True)
    (folder / "comm").write_text(f"{name}\n")
    (folder / "cgroup").write_text(f"{groups}\n")
    (folder / "fd" / "3").symlink_to(f"socket:[{inode}]")


def test_a_taken_port_is_named_with_who_has_it(proc):
    assert taken([Port(6443)], "k3s", proc) == ["port 6443/tcp is taken by nginx (process 10)"]


def test_a_port_of_the_unit_itself_is_free(proc):
    assert taken([Port(6443)], "nginx", proc) == []
    assert taken([Port(8472, "udp")], "k3s-agent", proc) == []


def test_another_units_port_is_taken(proc):
    assert taken([Port(8472, "udp")], "k3s", proc) == [
        "port 8472/udp is taken by flanneld (process 11)"
    ]


def test_only_who_waits_at_a_port_has_it(proc):
    assert taken([Port(80), Port(10250), Port(8472)], "k3s", proc) == []


def test_a_tunnel_of_the_kernels_has_no_process_and_is_no_hindrance(proc):
    assert taken([Port(53, "udp")], "k3s", proc) == []


def test_a_holder_that_cannot_be_seen_still_has_the_port(proc):
    (proc / "10" / "fd" / "3").unlink()

    assert taken([Port(6443)], "k3s", proc) == ["port 6443/tcp is taken by a process elsewhere"]


def asked(**changes):
    usual = {"unit": "k3s", "ports": [], "address": "127.0.0.1", "interface": "lo", "now": None}
    return {**usual, "data_dir": None, **changes}


def test_this_machine_can():
    found = k3schecks.check(asked(now=time.time()))

    assert found["changed"] is False
    assert found["cpu"] == os.cpu_count()
    assert found["memory"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_all_that_is_against_it_is_said_in_one_line():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        wrong = asked(
            ports=[{"port": port}],
            address="192.0.2.77",
            interface="no0",
            now=time.time() - 1000,
        )
        with pytest.raises(errors.CapabilityError) as refused:
            k3schecks.check(wrong)

    assert str(refused.value).split("; ") == [
        "there is no network card no0",
        "none of its network cards has the address 192.0.2.77",
        f"port {port}/tcp is taken by {_own_name()} (process {os.getpid()})",
        "its clock is 1000 s ahead of the controller's",
    ]


def _own_name():
    with open("/proc/self/comm") as file:  # noqa: PTH123
        return file.read().strip()


@pytest.mark.parametrize(
    ("marks", "kind"),
    [
        ((), ""),
        (("agent-token",), "k3s-agent"),
        (("token",), "k3s"),
        (("agent-token", "token"), "k3s"),
    ],
)
def test_a_node_does_not_become_one_of_another_kind(tmp_path, monkeypatch, marks, kind):
    for mark in marks:
        (tmp_path / mark).touch()
    places = {"k3s": tmp_path / "token", "k3s-agent": tmp_path / "agent-token"}
    monkeypatch.setattr(k3schecks, "_MARKS", places)

    for unit in ("k3s", "k3s-agent"):
        said = " ".join(k3schecks._another(unit))
        assert said == "" if kind in ("", unit) else said.startswith(f"it has the service {kind},")


def test_a_nodes_state_stays_where_it_is(tmp_path, monkeypatch):
    settings = tmp_path / "config.yaml"
    monkeypatch.setattr(k3schecks.k3ssettings.data_dir, "__defaults__", (settings,))
    assert list(k3schecks._elsewhere("/srv/k3s")) == []

    settings.write_text("data-dir: /srv/k3s\nkubelet-arg:\n- root-dir=/srv/kubelet\n")

    assert list(k3schecks._elsewhere("/srv/k3s")) == []
    assert list(k3schecks._elsewhere(None)) == []
    (said,) = k3schecks._elsewhere("/var/lib/rancher/k3s")
    assert said.startswith("it has K3s in /srv/k3s, and would have it in /var/lib/rancher/k3s")
    assert k3schecks.k3ssettings.kubelet_dir(settings) == "/srv/kubelet"


def test_any_address_will_do_if_none_is_asked_for():
    assert k3schecks.check(asked(address="", interface=""))["changed"] is False


def test_who_is_not_root_is_told_of_becoming_root(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(errors.CapabilityError, match="not root"):
        k3schecks.check(asked())


def test_what_is_no_address_is_said():
    with pytest.raises(errors.CapabilityError, match="cannot be a node's address"):
        k3schecks.check(asked(address="nowhere.example.invalid"))


@pytest.mark.parametrize(
    ("ahead", "said"), [(-4, ""), (-6, "6 s behind"), (290, ""), (310, "ahead")]
)
def test_a_clock_may_be_ahead_by_what_the_way_there_took(ahead, said):
    try:
        k3schecks.check(asked(now=time.time() - ahead))
    except errors.CapabilityError as error:
        assert said and said in str(error)
    else:
        assert not said


def test_a_file_system_that_the_kernel_can_load_will_do(tmp_path, proc, monkeypatch):
    monkeypatch.setattr(k3schecks, "_MODULES", tmp_path)
    (proc / "filesystems").write_text("nodev\tproc\n\text4\n")
    (proc / "meminfo").write_text("MemTotal:  1000000 kB\n")

    def said():
        return [each for each in k3schecks._lacking(proc) if "overlay" in each]

    assert said() == ["the kernel has no overlay file system (modprobe overlay)"]
    folder = tmp_path / os.uname().release
    folder.mkdir()
    (folder / "modules.dep").write_text("kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko\n")
    assert said() != []
    (folder / "modules.dep").write_text("kernel/fs/overlayfs/overlay.ko.xz:\n")
    assert said() == []
