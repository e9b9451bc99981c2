# SPDX-License-Identifier: GPL-3.0-or-later
"""What it is told: K3s's flags, from the command line, its settings files and the environment."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import plainyaml

CONFIG = "/etc/rancher/k3s/config.yaml"
DATA_DIR = "/var/lib/rancher/k3s"
PAUSE_IMAGE = "rancher/mirrored-pause:3.6"
TEXT, LIST, SWITCH, NUMBER = "text", "list", "switch", "number"
_SWITCHES = {"true": True, "1": True, "false": False, "0": False}

_NODE = {
    TEXT: "token token-file server data-dir node-name flannel-iface snapshotter pause-image"
    " resolv-conf config",
    LIST: "node-label node-taint node-ip kubelet-arg",
    SWITCH: "with-node-id debug",
    NUMBER: "",
}
_SERVER = {
    TEXT: "agent-token agent-token-file bind-address advertise-address cluster-domain"
    " flannel-backend write-kubeconfig write-kubeconfig-mode service-node-port-range",
    LIST: "tls-san cluster-cidr service-cidr cluster-dns disable etcd-arg kube-apiserver-arg"
    " kube-controller-manager-arg kube-scheduler-arg",
    SWITCH: "cluster-init disable-agent disable-scheduler",
    NUMBER: "https-listen-port",
}
# Flags of K3s that change nothing here.
_NODE_UNHEEDED = {
    TEXT: "private-registry image-credential-provider-bin-dir image-credential-provider-config"
    " log alsologtostderr vmodule",
    LIST: "node-external-ip kube-proxy-arg airgap-extra-registry node-internal-dns"
    " node-external-dns",
    SWITCH: "protect-kernel-defaults prefer-bundled-bin disable-default-registry-endpoint"
    " nonroot-devices enable-pprof",
    NUMBER: "lb-server-port v",
}
_SERVER_UNHEEDED = {
    TEXT: "write-kubeconfig-group helm-job-image default-local-storage-path"
    " system-default-registry egress-selector-mode servicelb-namespace etcd-snapshot-name"
    " etcd-snapshot-schedule-cron etcd-snapshot-dir",
    LIST: "kube-cloud-controller-manager-arg",
    SWITCH: "tls-san-security disable-cloud-controller disable-kube-proxy disable-network-policy"
    " disable-helm-controller embedded-registry etcd-disable-snapshots etcd-expose-metrics"
    " etcd-snapshot-compress flannel-ipv6-masq flannel-external-ip supervisor-metrics",
    NUMBER: "etcd-snapshot-retention advertise-port",
}
# Flags that would change what somebody relies on, so that going on without would be a lie.
_REFUSED = (
    "datastore-endpoint datastore-cafile datastore-certfile datastore-keyfile cluster-reset"
    " cluster-reset-restore-path secrets-encryption docker container-runtime-endpoint rootless"
    " vpn-auth vpn-auth-file selinux flannel-conf flannel-cni-conf disable-apiserver"
    " disable-etcd disable-controller-manager etcd-s3"
)
REFUSED = frozenset(_REFUSED.split())
_SHORT = {"t": "token", "s": "server", "d": "data-dir", "o": "write-kubeconfig", "c": "config"}
_ENVIRONMENT = {
    "K3S_TOKEN": "token",
    "K3S_TOKEN_FILE": "token-file",
    "K3S_AGENT_TOKEN": "agent-token",
    "K3S_AGENT_TOKEN_FILE": "agent-token-file",
    "K3S_URL": "server",
    "K3S_NODE_NAME": "node-name",
    "K3S_DATA_DIR": "data-dir",
    "K3S_CLUSTER_INIT": "cluster-init",
    "K3S_KUBECONFIG_OUTPUT": "write-kubeconfig",
    "K3S_KUBECONFIG_MODE": "write-kubeconfig-mode",
    "K3S_RESOLV_CONF": "resolv-conf",
}


class UsageError(ValueError):
    """What it is told cannot be."""


@dataclass(frozen=True)
class Settings:
    """What holds, by the long names of K3s's flags."""

    texts: Mapping[str, str] = field(default_factory=dict)
    lists: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def text(self, name: str, default: str = "") -> str:
        """Return one value."""
        return self.texts.get(name, default)

    def many(self, name: str, default: Sequence[str] = ()) -> list[str]:
        """Return the values of a flag that can be repeated; commas part them too."""
        found = self.lists.get(name, default)
        apart = name in ("node-ip", "cluster-cidr", "service-cidr", "disable", "tls-san")
        return [part for each in found for part in (each.split(",") if apart else [each])]

    def is_on(self, name: str) -> bool:
        """Return whether a switch is on."""
        return _SWITCHES.get(self.texts.get(name, "false").lower(), False)

    @property
    def data_dir(self) -> Path:
        """Where all is kept."""
        return Path(self.text("data-dir") or DATA_DIR)

    @property
    def port(self) -> int:
        """Where the API answers; one above it servers and agents join."""
        return int(self.text("https-listen-port") or 6443)


def kinds(command: str) -> dict[str, str]:
    """Return the kind of each flag that a command knows."""
    tables = [_NODE, _NODE_UNHEEDED]
    tables += [_SERVER, _SERVER_UNHEEDED] if command == "server" else []
    return {
        name: kind for table in tables for kind, names in table.items() for name in names.split()
    }


def read(command: str, words: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Return what holds: the command line before the files, and these before the environment."""
    known = kinds(command)
    given = _gathered(_from_words(words, known), known)
    named = given.text("config") or environment.get("K3S_CONFIG_FILE", "")
    filed = _from_files(Path(named or CONFIG), known, must=bool(named))
    around = {
        name: environment[variable]
        for variable, name in _ENVIRONMENT.items()
        if environment.get(variable) and name in known
    }
    return Settings(
        {**around, **filed.texts, **given.texts},
        {**filed.lists, **given.lists},
    )


def data_dir(environment: Mapping[str, str]) -> Path:
    """Return where a command that is neither server nor agent finds what is unpacked."""
    return read("server", [], environment).data_dir


def _from_words(words: Sequence[str], known: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            raise UsageError(f"unexpected argument: {word}")
        name, equals, value = word.lstrip("-").partition("=")
        name = _SHORT.get(name, name)
        kind = _kind(name, known, "flag provided but not defined: -{}")
        if not equals:
            value = "true" if kind == SWITCH else rest.pop(0) if rest else ""
            if kind != SWITCH and not value:
                raise UsageError(f"flag needs an argument: -{name}")
        yield name, value


def _kind(name: str, known: Mapping[str, str], message: str) -> str:
    if name in REFUSED:
        raise UsageError(f"the stand-in for K3s does not have {name}")
    if name not in known:
        raise UsageError(message.format(name))
    return known[name]


def _gathered(pairs: Iterator[tuple[str, str]], known: Mapping[str, str]) -> Settings:
    texts: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    for name, value in pairs:
        if known[name] == LIST:
            lists.setdefault(name, []).append(value)
        else:
            texts[name] = _checked(name, value, known[name])
    return Settings(texts, lists)


def _checked(name: str, value: str, kind: str) -> str:
    if kind == SWITCH and value.lower() not in _SWITCHES:
        raise UsageError(f"{name} is true or false, not {value!r}")
    if kind == NUMBER and not value.isdigit():
        raise UsageError(f"{name} is a number, not {value!r}")
    return value


def _from_files(main: Path, known: Mapping[str, str], *, must: bool) -> Settings:
    """Read the file, then those of the folder beside it; of a key the last says what holds."""
    texts: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    if must and not main.exists():
        raise UsageError(f"{main} does not exist")
    beside = sorted(main.with_name(f"{main.name}.d").glob("*"))
    for path in [main, *(each for each in beside if each.suffix in (".yaml", ".yml"))]:
        if path.exists():
            _merge(path, known, texts, lists)
    return Settings(texts, lists)


def _merge(
    path: Path, known: Mapping[str, str], texts: dict[str, str], lists: dict[str, list[str]]
) -> None:
    try:
        document = plainyaml.load(path.read_text())
    except (plainyaml.NotPlainError, OSError) as error:
        raise UsageError(f"{path}: {error}") from error
    for key, value in document.items():
        name, more = key.removesuffix("+"), key.endswith("+")
        kind = _kind(name, known, f"{path}: unknown key {{}}")
        values = [_word(each) for each in (value if isinstance(value, list) else [value])]
        if kind == LIST:
            lists[name] = [*(lists.get(name, []) if more else []), *values]
        elif len(values) != 1:
            raise UsageError(f"{path}: {name} is not a list")
        else:
            texts[name] = _checked(name, values[0], kind)


def _word(value: plainyaml.Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def node_name(settings: Settings) -> str:
    """Return the name of this node, with what tells it from others of that name if asked for."""
    name = (settings.text("node-name") or os.uname().nodename).lower()
    if not settings.is_on("with-node-id"):
        return name
    path = Path("/etc/rancher/node/id")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(os.urandom(4).hex() + "\n")
    return f"{name}-{path.read_text().strip()}"
