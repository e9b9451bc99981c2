# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a machine is K3s's and goes, and what is not and stays."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from plugins.module_utils import k3sremoval
from plugins.module_utils.cgroups import Group
from plugins.module_utils.hierarchies import Hierarchies
from plugins.module_utils.k3sremoval import Mount, Places, family, without_rules

PLACES = Places("/opt/bin", "", "/var/lib/rancher/k3s", "/var/lib/kubelet", "/usr/local/bin/k3s")
SHIM = "/var/lib/rancher/k3s/data/abc/bin/containerd-shim-runc-v2"
RULES = """*filter
:INPUT ACCEPT [0:0]
:KUBE-FIREWALL - [0:0]
-A INPUT -j KUBE-FIREWALL
-A INPUT -p tcp --dport 22 -j ACCEPT
-A FORWARD -m comment --comment "flanneld forward" -s 10.42.0.0/16 -j ACCEPT
COMMIT
"""


def test_whatever_k3s_started_is_found_with_all_below_it():
    table = {
        1: (0, "init", "/sbin/init"),
        20: (1, "k3s-server", "/usr/local/bin/k3s server"),
        21: (20, "containerd", "containerd -c /var/lib/rancher/k3s/agent/etc/containerd/x"),
        30: (1, "containerd-shim", f"{SHIM} -namespace k8s.io -address /run/k3s/x.sock"),
        31: (30, "web", "/web --port 80"),
        32: (31, "sh", "sh"),
        40: (1, "containerd-shim", "/usr/bin/containerd-shim-runc-v2 -address /run/containerd/x"),
        41: (40, "db", "/db"),
    }

    assert family(table, PLACES) == {
        20: "k3s-server",
        21: "containerd",
        30: "containerd-shim",
        31: "web",
        32: "sh",
    }


def test_what_runs_on_another_node_is_left_alone():
    table = {
        20: (1, "k3s-server", "/usr/local/bin/k3s server"),
        21: (20, "containerd", "containerd"),
        30: (1, "k3s-server", "/usr/local/bin/k3s server"),
        31: (30, "containerd", "containerd"),
    }

    # Containers have networks of their own: what is below one of ours is ours.
    assert set(family(table, PLACES, lambda pid: pid == 20)) == {20, 21}


def test_whoever_asks_is_never_found():
    table = {
        1: (0, "init", "/sbin/init"),
        2: (1, "sh", "sh -c /var/lib/rancher/k3s/x"),
        os.getpid(): (2, "python3", "python3 /run/k3s/x"),
    }

    assert family(table, PLACES) == {}


@pytest.mark.parametrize(
    ("path", "root", "held"),
    [
        ("/var/lib/kubelet/pods/x/volumes", "/", True),
        ("/run/k3s/x", "/", True),
        ("/run/k3s", "/", False),
        ("/run/netns/cni-0a", "net:[1]", True),
        ("/var/lib/kubelet2", "/", False),
        ("/run/netns/mine", "net:[2]", False),
        ("/proc/sys/kernel/panic", "/k3s/tunables/kernel.panic", True),
        ("/proc/sys/kernel/panic", "/run/k3s/tunables/kernel.panic//deleted", True),
        ("/proc/sys/fs/binfmt_misc", "/", False),
        ("/proc/sys/kernel/panic", "/sys/kernel/panic", False),
        ("/proc/sys", "/", False),
        ("/", "/", False),
    ],
)
def test_mounts_below_its_folders_are_its_own(path, root, held):
    assert PLACES.holds(Mount(path, root)) is held


def test_what_is_mounted_is_read_with_what_of_it_is_there(tmp_path, monkeypatch):
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "mountinfo").write_text(
        "1 0 8:1 / / rw - ext4 /dev/a rw\n"
        "2 1 0:5 /k3s/tunables/x /proc/sys/x rw shared:3 - tmpfs none rw\n"
        "3 1 0:6 / /a\\040b rw - tmpfs none rw\n"
        "4 3 0:6 /c /a\\040b/c rw - tmpfs none rw\n"
        "5 3 0:6 /c /a\\040b/d rw - tmpfs none rw\n"
    )
    monkeypatch.setattr(k3sremoval, "_PROC", tmp_path)

    assert k3sremoval._mounted() == [
        Mount("/", "/"),
        Mount("/proc/sys/x", "/k3s/tunables/x"),
        Mount("/a b", "/"),
        Mount("/a b/c", "/c", on_itself=True),
        Mount("/a b/d", "/c"),
    ]


def test_kubelets_folder_on_itself_is_its_own_and_a_disk_there_is_not():
    assert PLACES.holds(Mount("/var/lib/kubelet", "/var/lib/kubelet", on_itself=True))
    assert not PLACES.holds(Mount("/var/lib/kubelet", "/"))


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Places of K3s in a folder, with nothing mounted but what a test says."""
    monkeypatch.setattr(k3sremoval, "_FOLDERS", (str(tmp_path / "kubelet"),))
    monkeypatch.setattr(k3sremoval, "_PLUGINS", tmp_path / "plugins")
    mounts = []
    monkeypatch.setattr(k3sremoval, "_mounted", lambda: mounts)
    data, bin_dir, link = (str(tmp_path / name) for name in ("rancher/k3s", "bin", "bin/k3s"))
    return tmp_path, Places(bin_dir, "", data, str(tmp_path / "kubelet"), link), mounts


def taken(places):
    """Take files and folders away, and return what was said."""
    said = []
    for find in (k3sremoval._files, k3sremoval._hollow):
        for step in find(places):
            step.act()
            said.append(step.what)
    return said


def test_a_disk_that_is_a_folder_of_it_is_emptied_and_stays(elsewhere):
    root, places, mounts = elsewhere
    data = root / "rancher" / "k3s"
    (data / "server" / "db").mkdir(parents=True)
    (data / "lost+found").mkdir()
    mounts.append(Mount(str(data), "/"))

    assert taken(places) == [f"remove {data / 'server'}"]
    assert [each.name for each in data.iterdir()] == ["lost+found"]
    assert taken(places) == []


def test_what_a_link_leads_to_is_emptied_and_stays(elsewhere):
    root, places, _ = elsewhere
    (root / "disk" / "pods").mkdir(parents=True)
    (root / "kubelet").symlink_to(root / "disk")

    assert taken(places) == [f"remove {root / 'kubelet' / 'pods'}"]
    assert list((root / "kubelet").iterdir()) == []
    assert taken(places) == []


def test_it_is_removed_from_where_its_settings_say_that_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(k3sremoval.k3ssettings, "data_dir", lambda: "/srv/k3s")
    monkeypatch.setattr(k3sremoval.k3ssettings, "kubelet_dir", lambda: "")
    link = tmp_path / "k3s"
    told = {"bin_dir": "/b", "cgroup": "", "data_dir": "/d", "kubelet_dir": "/k", "link": str(link)}

    assert k3sremoval._found(told) == Places("/b", "", "/srv/k3s", "/k", str(link))
    link.symlink_to("/opt/k3s-v1.34.4")
    assert k3sremoval._found(told) == Places("/opt", "", "/srv/k3s", "/k", str(link))
    assert Places(**told).folders[-1] == "/etc/rancher/k3s"


def test_a_folder_that_is_neither_goes_with_what_was_made_above_it(elsewhere):
    root, places, _ = elsewhere
    (root / "rancher" / "k3s" / "server").mkdir(parents=True)
    (root / "kubelet").mkdir()

    assert taken(places) == [
        f"remove {root / 'rancher' / 'k3s'}",
        f"remove {root / 'kubelet'}",
        f"remove {root / 'rancher'}",
    ]


def test_nothing_is_removed_in_which_something_is_mounted(elsewhere):
    root, places, mounts = elsewhere
    (root / "disk" / "k3s").mkdir(parents=True)
    (root / "rancher").symlink_to(root / "disk")
    mounts.append(Mount(str(root / "disk" / "k3s" / "x"), "/"))

    step = next(k3sremoval._files(places))
    with pytest.raises(OSError, match="disk/k3s/x is still mounted"):
        step.act()


def test_rules_of_others_stay():
    assert without_rules(RULES) == (
        "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp --dport 22 -j ACCEPT\nCOMMIT\n"
    )
    assert without_rules(without_rules(RULES)) == without_rules(RULES)


@pytest.mark.parametrize(
    ("name", "its"),
    [
        ("cni0", True),
        ("flannel.1", True),
        ("flannel-v6.1", True),
        ("veth0a1b2c3d", True),
        ("veth-mine", False),
        ("eth0", False),
        ("cni01", False),
    ],
)
def test_links_go_by_their_names(name, its):
    assert bool(k3sremoval._LINKS.fullmatch(name)) is its


def test_slices_of_pods_that_are_gone_are_stopped(tmp_path, monkeypatch):
    asked = []

    def systemctl(*words):
        asked.append(words)
        names = ("kubepods", "pkgctl-kubepods", "pkgctl-kubepods-burstable", "user")
        return "\n".join(f"{name}.slice loaded active active Slice" for name in names)

    monkeypatch.setattr(k3sremoval.services, "RUNTIME", tmp_path)
    monkeypatch.setattr(k3sremoval.services, "systemctl", systemctl)
    monkeypatch.setattr(k3sremoval.services, "control_group", lambda name: name)
    # Somebody else's kubelet has pods.
    monkeypatch.setattr(k3sremoval, "_has_processes", lambda pods: pods.path == "kubepods.slice")

    (step,) = k3sremoval._groups(PLACES)
    step.act()

    assert step.what == "stop pkgctl-kubepods.slice"
    assert asked[-1] == ("stop", "--", "pkgctl-kubepods.slice")


@pytest.mark.parametrize("root", ["", "/pkgctl/lab/nodes/edge-1"])
def test_groups_of_pods_that_are_gone_go_in_every_hierarchy(tmp_path, monkeypatch, root):
    own = {name: tmp_path / name for name in ("cpu", "memory")}
    others = (tmp_path / "cpuset",)
    machine = Hierarchies(own, None, frozenset(), others)
    monkeypatch.setattr(k3sremoval, "group", lambda path: Group(path, machine))
    monkeypatch.setattr(k3sremoval.services, "RUNTIME", tmp_path / "nowhere")
    tops = [folder / root.lstrip("/") for folder in (*own.values(), *others)]
    for top in tops:
        (top / "kubepods" / "burstable").mkdir(parents=True)
        (top / "others").mkdir()
    tasks = tmp_path / "memory" / root.lstrip("/") / "kubepods" / "burstable" / "cgroup.procs"
    tasks.write_text("17\n")
    places = replace(PLACES, cgroup=root)
    assert list(k3sremoval._groups(places)) == []

    tasks.unlink()
    (step,) = k3sremoval._groups(places)
    step.act()

    assert step.what == f"remove the control group {root.lstrip('/')}/kubepods".replace(" /", " ")
    assert [[each.name for each in top.iterdir()] for top in tops] == [["others"]] * 3
    assert list(k3sremoval._groups(places)) == []


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Folders as K3s leaves them, and a machine on which nothing else of it is."""
    places = {
        "bin_dir": tmp_path / "bin",
        "cgroup": "",
        "data_dir": tmp_path / "data",
        "kubelet_dir": tmp_path / "kubelet",
        "link": tmp_path / "bin" / "k3s",
    }
    (tmp_path / "data" / "agent" / "images").mkdir(parents=True)
    (tmp_path / "data" / "agent" / "images" / "a.tar").write_text("x")
    (tmp_path / "data" / "current").symlink_to("/")
    (tmp_path / "kubelet" / "pods").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "k3s-v1.34.4+k3s1").write_text("x")
    (tmp_path / "bin" / "k3s").symlink_to("k3s-v1.34.4+k3s1")
    (tmp_path / "bin" / "kubectl").symlink_to("k3s")
    (tmp_path / "bin" / "ctr").symlink_to("/usr/bin/ctr")
    (tmp_path / "bin" / "other").write_text("x")
    monkeypatch.setattr(k3sremoval, "_FOLDERS", (str(tmp_path / "etc"),))
    for name in ("_processes", "_groups", "_mounts", "_namespaces", "_links", "_rules"):
        monkeypatch.setattr(k3sremoval, name, lambda _: [])
    return {key: str(value) for key, value in places.items()}


def test_folders_made_for_it_go_once_they_are_empty(machine, tmp_path):
    home = tmp_path / "rancher" / "k3s"
    home.parent.mkdir()
    (tmp_path / "data").rename(home)
    machine["data_dir"] = str(home)
    (tmp_path / "rancher" / "other").touch()

    k3sremoval.remove(machine)
    assert [path.name for path in (tmp_path / "rancher").iterdir()] == ["other"]

    (tmp_path / "rancher" / "other").unlink()
    assert k3sremoval.remove(machine)["actions"] == [f"remove {tmp_path / 'rancher'}"]


def test_a_folder_of_plugins_goes_unless_there_are_some(machine, tmp_path, monkeypatch):
    folder = tmp_path / "rancher" / "k3s"
    folder.mkdir(parents=True)
    (folder / "plugin").touch()
    monkeypatch.setattr(k3sremoval, "_PLUGINS", folder)

    k3sremoval.remove(machine)
    assert folder.exists()

    (folder / "plugin").unlink()
    k3sremoval.remove(machine)
    assert not (tmp_path / "rancher").exists()


def test_files_go_and_those_of_others_stay(machine, tmp_path):
    seen = k3sremoval.remove(machine, dry_run=True)
    assert (tmp_path / "data").exists()

    done = k3sremoval.remove(machine)

    assert seen == done
    assert done["changed"] is True
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin"]
    assert sorted(path.name for path in (tmp_path / "bin").iterdir()) == ["ctr", "other"]
    assert k3sremoval.remove(machine) == {"changed": False, "actions": []}
