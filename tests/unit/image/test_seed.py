# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pkgctl.image import seed
from pkgctl.image.seed import SeedError

USER = {
    "hostname": "edge-1",
    "disable_root": False,
    "ssh_deletekeys": False,
    "ssh_keys": {"ed25519_private": "PRIVATE\nKEY\n", "ed25519_public": "ssh-ed25519 AAAA host"},
    "ssh_authorized_keys": ["ssh-ed25519 BBBB me\n", "ssh-ed25519 CCCC you"],
}
META = {"instance-id": "edge-1-1", "local-hostname": "edge-1"}
NETWORK = {
    "version": 2,
    "ethernets": {
        "mgmt": {
            "match": {"macaddress": "52:54:00:AA:BB:CC"},
            "set-name": "mgmt",
            "addresses": ["192.168.177.11/24"],
            "routes": [{"to": "default", "via": "192.168.177.1"}],
            "dhcp4": False,
        },
        "data": {
            "match": {"macaddress": "02:50:0a:4d:00:01"},
            "set-name": "data",
            "addresses": ["10.77.0.1/16", "fd77:7067::1/64"],
            "mtu": 1450,
        },
    },
}


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "seed", USER, META, NETWORK)


def write(place: Path, user, meta, network) -> Path:
    place.mkdir(exist_ok=True)
    (place / "user-data").write_text("#cloud-config\n" + json.dumps(user))
    (place / "meta-data").write_text(json.dumps(meta))
    (place / "network-config").write_text(json.dumps(network))
    return place


def test_the_network_is_renamed_by_address_and_set_in_one_batch():
    assert seed.setup(NETWORK).splitlines() == [
        "card 52:54:00:aa:bb:cc mgmt",
        "card 02:50:0a:4d:00:01 data",
        "ip -force -batch - <<END",
        "address replace 192.168.177.11/24 dev mgmt",
        "link set dev mgmt up",
        "route replace default via 192.168.177.1 dev mgmt",
        "link set dev data mtu 1450",
        "address replace 10.77.0.1/16 dev data",
        "address replace fd77:7067::1/64 dev data nodad",
        "link set dev data up",
        "END",
    ]


def test_a_route_of_ipv6_is_told_so():
    card = {
        "match": {"macaddress": "52:54:00:00:00:01"},
        "routes": [{"to": "::/0", "via": "fd00::1", "metric": 7}],
    }

    lines = seed.setup({"ethernets": {"lan": card}}).splitlines()

    assert "-6 route replace ::/0 via fd00::1 dev lan metric 7" in lines


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("set-name", "a; reboot"),
        ("set-name", "x" * 16),
        ("addresses", ["10.0.0.1/8 dev lo"]),
        ("addresses", ["$(reboot)"]),
        ("match", {"macaddress": "none"}),
        ("match", {}),
        ("mtu", "1500\nreboot"),
        ("routes", [{"to": "default\nEND", "via": "10.0.0.1"}]),
        ("routes", [{"to": "default", "via": "`x`"}]),
    ],
)
def test_nothing_of_a_seed_reaches_the_shell_but_names_and_addresses(key, value):
    card = {**NETWORK["ethernets"]["mgmt"], key: value}

    with pytest.raises(SeedError):
        seed.setup({"ethernets": {"mgmt": card}})


@pytest.mark.parametrize("hostname", ["", "a b", "-x", "x" * 65, "a\nb"])
def test_a_hostname_is_one(hostname):
    with pytest.raises(SeedError, match="hostname"):
        seed.files({"hostname": hostname}, {"local-hostname": hostname}, {})


def test_a_new_seed_is_written_and_the_same_one_only_once(tmp_path, folder):
    root, state = tmp_path / "root", tmp_path / "root/var/lib/pkgctl-seed"

    assert seed.apply(folder, state, root)
    key = root / "etc/ssh/ssh_host_ed25519_key"
    assert key.read_text() == "PRIVATE\nKEY\n" and key.stat().st_mode & 0o777 == 0o600
    assert (root / "root/.ssh").stat().st_mode & 0o777 == 0o700
    allowed = root / "root/.ssh/authorized_keys"
    assert allowed.read_text() == "ssh-ed25519 BBBB me\nssh-ed25519 CCCC you\n"
    assert (root / "etc/hostname").read_text() == "edge-1\n"
    assert (state / "network").read_text() == seed.setup(NETWORK)
    assert (state / "meta-data").read_text() == (folder / "meta-data").read_text()

    key.write_text("changed by hand")
    assert not seed.apply(folder, state, root)
    assert key.read_text() == "changed by hand"


def test_another_instance_applies_again_and_the_same_under_another_name_does_not(tmp_path, folder):
    root, state = tmp_path / "root", tmp_path / "root/var/lib/pkgctl-seed"
    seed.apply(folder, state, root)

    write(folder, {**USER, "hostname": "other"}, {**META, "local-hostname": "other"}, NETWORK)
    assert not seed.apply(folder, state, root)
    # Known from here on, so the shell need not start Python for it again.
    assert (state / "meta-data").read_text() == (folder / "meta-data").read_text()
    write(folder, {**USER, "hostname": "other"}, {**META, "instance-id": "2"}, NETWORK)
    assert seed.apply(folder, state, root)
    assert (root / "etc/hostname").read_text() == "other\n"


def test_a_seed_that_is_not_right_changes_nothing(tmp_path, folder):
    root, state = tmp_path / "root", tmp_path / "root/state"
    (folder / "network-config").write_text("version: 2")

    with pytest.raises(SeedError, match="network-config"):
        seed.apply(folder, state, root)

    assert not root.exists()


@pytest.mark.parametrize("text", ["[]", "", "{}"])
def test_meta_data_names_the_instance(tmp_path, folder, text):
    (folder / "meta-data").write_text(text)

    with pytest.raises(SeedError, match="meta-data"):
        seed.apply(folder, tmp_path / "state", tmp_path)


def test_the_program_runs_alone_and_says_in_one_line_what_is_wrong(tmp_path):
    run = subprocess.run(
        [sys.executable, "-I", "-S", seed.__file__, str(tmp_path), str(tmp_path / "state")],
        capture_output=True,
        text=True,
    )

    assert run.returncode == 1
    assert run.stderr.startswith("pkgctl-seed: meta-data:") and run.stderr.count("\n") == 1
