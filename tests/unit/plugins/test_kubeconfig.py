# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import kubeconfig
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import NodeError
from ansible_collections.pkgctl.testbed.plugins.module_utils.kubeconfig import Access, Part

HERE = Path("/data/agent")
# As K3s writes it.
FILES = """\
apiVersion: v1
clusters:
- cluster:
    server: https://127.0.0.1:6444
    certificate-authority: /data/agent/server-ca.crt
  name: local
contexts:
- context:
    cluster: local
    namespace: default
    user: user
  name: Default
current-context: Default
kind: Config
preferences: {}
users:
- name: user
  user:
    client-certificate: client-kubelet.crt
    client-key: "/data/agent/client-kubelet.key"
"""


def packed(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def inline(**more: str) -> dict[str, object]:
    user = {"client-certificate-data": packed("C"), "client-key-data": packed("K"), **more}
    cluster = {"server": "https://10.77.0.1:6443", "certificate-authority-data": packed("A")}
    return {"clusters": [{"cluster": cluster}], "users": [{"name": "default", "user": user}]}


def test_files_are_meant_from_where_the_kubeconfig_lies():
    assert kubeconfig.read(FILES, HERE) == Access(
        "https://127.0.0.1:6444",
        Part(path="/data/agent/server-ca.crt"),
        Part(path="/data/agent/client-kubelet.crt"),
        Part(path="/data/agent/client-kubelet.key"),
    )


@pytest.mark.parametrize("shown", [json.dumps, lambda each: "\n  " + json.dumps(each, indent=2)])
def test_what_it_holds_itself_is_unpacked(shown):
    assert kubeconfig.read(shown(inline()), HERE) == Access(
        "https://10.77.0.1:6443", Part(text="A"), Part(text="C"), Part(text="K")
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no server"),
        ("{", "is no JSON"),
        ("[" * 100_000, "names no server"),
        ('{"a":' + "[" * 100_000, "is no JSON"),
        (FILES.replace("https", "http"), "names no server that is reached by https"),
        (FILES.replace("    client-key", "    other"), "has no client-key"),
        (FILES + "    server: https://10.0.0.1\n", "says server twice"),
        (json.dumps(inline(**{"client-key-data": "?"})), "client-key-data cannot be read"),
        (json.dumps(inline(**{"client-key-data": packed("\xff")})), "cannot be read"),
    ],
)
def test_one_that_shows_no_way_is_refused_in_one_line(text, said):
    with pytest.raises(NodeError, match=said) as refused:
        kubeconfig.read(text, HERE)
    assert "\n" not in str(refused.value)
