# SPDX-License-Identifier: GPL-3.0-or-later
"""A stack's configuration, right and wrong."""

from __future__ import annotations

import json

import pytest

from pkgctl.errors import SpecError
from testbed import settings

TWO = [
    {"name": "one", "uri": "qemu:///system", "address": "192.0.2.1", "cpu": "4", "memory": "8Gi"},
    {"name": "two", "uri": "qemu+ssh://root@192.0.2.2/system", "address": "192.0.2.2"},
]


def read(**config: object) -> settings.Settings:
    texts = {
        key: each if isinstance(each, str) else json.dumps(each) for key, each in config.items()
    }
    return settings.read(texts.get)


def test_without_hosts_the_only_one_is_this_machine():
    (host,) = read().hosts

    assert (host.name, host.uri) == ("here", "qemu:///system")
    assert str(host.network) == "192.168.177.0/24"


def test_further_hosts_get_the_networks_that_follow():
    networks = [str(host.network) for host in read(hosts=TWO, network="10.9.0.0/25").hosts]

    assert networks == ["10.9.0.0/25", "10.9.0.128/25"]


def test_the_size_of_a_host_is_read_once():
    assert (read(hosts=TWO).hosts[0].cpu, read(hosts=TWO).hosts[0].memory) == (4.0, 8 * 2**30)


@pytest.mark.parametrize(
    ("config", "key", "words"),
    [
        ({"provider": "lokal"}, "provider", "did you mean local?"),
        ({"testbed": "Up"}, "testbed", "no name of a testbed"),
        ({"network": "192.168.1.1/24"}, "network", "host bits set"),
        ({"network": "10.0.0.0/30"}, "network", "/8 to /29"),
        ({"patience": "-1"}, "patience", "from 1 to"),
        ({"settle": "yes"}, "settle", "true or false"),
        ({"topology": " "}, "topology", "is empty"),
        ({"hosts": '"here"'}, "hosts", "is no list"),
        ({"hosts": [{"name": "a b", "uri": "qemu:///system"}]}, "hosts[0].name", "'a b'"),
        ({"hosts": [{"name": "a", "uri": "http://a"}]}, "hosts[0].uri", "qemu:///system"),
        (
            {"hosts": [{"name": "a", "uri": "qemu+ssh://[2001:db8::1]:22/system?mode=direct"}]},
            "hosts[0].uri",
            "names no user; write qemu+ssh://root@[2001:db8::1]:22/system?mode=direct",
        ),
        ({"hosts": [{"name": "a", "urn": "x"}]}, "hosts[0].urn", "did you mean uri?"),
        ({"hosts": [{**TWO[0], "memory": "much"}]}, "hosts[0].memory", "much"),
        ({"hosts": [{**TWO[0], "folder": "images"}]}, "hosts[0].folder", "full path"),
        ({"hosts": [TWO[0], {**TWO[1], "name": "one"}]}, "hosts[1].name", "given twice"),
        ({"hosts": [TWO[0], {**TWO[1], "address": None}]}, "hosts[1].address", "needs an address"),
        ({"hosts": [TWO[0], {**TWO[1], "network": "192.168.0.0/16"}]}, "hosts[1].network", "one"),
    ],
)
def test_what_is_wrong_is_said_with_its_key(config, key, words):
    with pytest.raises(SpecError) as found:
        read(**config)

    assert found.value.key == key
    assert words in str(found.value)


def test_a_private_key_is_not_taken_for_a_public_one(tmp_path):
    path = tmp_path / "id"
    path.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nsecret\n")

    with pytest.raises(SpecError, match="is a private key; give the public one") as found:
        settings.public_key(str(path))

    assert "secret" not in str(found.value)


def test_a_public_key_is_one_line(tmp_path):
    path = tmp_path / "id.pub"
    path.write_text("ssh-ed25519 AAAA me\n")

    assert settings.public_key(str(path)) == "ssh-ed25519 AAAA me"
    assert settings.public_key("") == ""
