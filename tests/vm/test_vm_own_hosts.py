# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles of K3s on hosts of one's own: a handwritten inventory, by SSH, with no testbed.

One host is entered as root, the other by a user who becomes root there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import yaml

from tests.conformance.subjects import Run
from tests.kubernetes.standin import pack

from .clusters import AGENT, PATIENCE, SERVER, SERVICES, Cluster, machines
from .guests import ROOT, TOOLS, Bed

pytestmark = [
    pytest.mark.vm("libvirt", "qemu", "image", "ssh"),
    pytest.mark.kubernetes(*pack.NEEDS),
]

SOMEBODY = "somebody"
# Members of the group wheel become root without being asked for a password.
ADMIT = f"""
set -e
groupadd --system wheel
useradd --create-home --password '*' --groups wheel {SOMEBODY}
sed -i '1i auth sufficient pam_wheel.so trust group=wheel' /etc/pam.d/su
install -d -o {SOMEBODY} -m 700 /home/{SOMEBODY}/.ssh
install -o {SOMEBODY} -m 600 /root/.ssh/authorized_keys /home/{SOMEBODY}/.ssh/
"""


class Hosts(Cluster):
    """Hosts, and a folder with their inventory."""

    def __init__(self, bed: Bed) -> None:
        super().__init__(bed)
        self.folder = bed.root / "own"
        self.folder.mkdir()
        (self.folder / "hosts.yml").write_text(yaml.safe_dump(_inventory(bed)))

    def ansible(self, playbook: str, *words: str) -> Run:
        """Play it as its user does, in the folder of the playbooks."""
        done = self.bed.host.run(
            # Whoever enters other mounts is at their root.
            *("env", "-C", ROOT / "ansible", "-u", "PKGCTL_TESTBED", "-u", "PKGCTL_STATE"),
            *(TOOLS / "ansible-playbook", playbook, "-i", self.folder / "hosts.yml", *words),
            environment={"HOME": str(self.bed.root), "COLUMNS": "400", "LC_ALL": "C.UTF-8"},
            timeout=2 * PATIENCE,
            check=False,
        )
        return Run(done.returncode, done.stdout, done.stderr)

    def kubeconfig(self) -> str:
        return str(self.folder / ".k3s" / "hosts.yml" / "kubeconfig")


def _inventory(bed: Bed) -> dict[str, object]:
    """Return what says where the hosts are and how they are entered, and nothing else."""
    known = [f"{guest.host} {(guest.folder / 'host.pub').read_text()}" for guest in bed.guests]
    (bed.root / "known_hosts").write_text("".join(known))
    at = {guest.name: {"ansible_host": guest.host} for guest in bed.guests}
    as_root = {"ansible_user": "root"}
    by_becoming = {
        "ansible_user": SOMEBODY,
        "ansible_become": True,
        "ansible_become_method": "su",
    }
    groups = {
        "server": {"hosts": {SERVER: {**at[SERVER], **as_root}}},
        "agent": {"hosts": {AGENT: {**at[AGENT], **by_becoming}}},
    }
    access = {
        "ansible_ssh_private_key_file": str(bed.folder / "id_ed25519"),
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={bed.root / 'known_hosts'}",
    }
    return {"k3s_cluster": {"vars": access, "children": groups}}


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with machines() as bed:
        bed.ssh(AGENT, ADMIT)
        made = Hosts(bed)
        changed = made.install()
        assert all(changed[node] for node in SERVICES)
        yield made


def test_they_are_nodes_kept_by_their_systemd(hosts: Hosts) -> None:
    found = json.loads(hosts.kubectl("get", "nodes", "-o", "json"))["items"]

    said = {
        node["metadata"]["name"]: (
            node["status"]["nodeInfo"]["kubeletVersion"],
            {each["type"]: each["address"] for each in node["status"]["addresses"]}["InternalIP"],
            {each["type"]: each["status"] for each in node["status"]["conditions"]}["Ready"],
        )
        for node in found
    }
    assert said == {
        guest.name: (hosts.releases.version(), guest.host, "True") for guest in hosts.bed.guests
    }
    for enabled, active, _ in hosts.services().values():
        assert (enabled, active) == ("enabled", "active")


def test_secrets_are_the_controllers_and_roots_alone(hosts: Hosts) -> None:
    kept = {each.name: each for each in (hosts.folder / ".k3s" / "hosts.yml").iterdir()}

    assert kept.keys() == {"token", "agent-token", "kubeconfig"}
    assert {each.stat().st_mode & 0o777 for each in kept.values()} == {0o600}
    agent_token = kept["agent-token"].read_text().strip()
    for node in SERVICES:
        looked = f"grep -rlF {agent_token} /etc /home /root /tmp /var/tmp /var/log"
        shown = f"{looked} | xargs stat -c '%A %n'"
        (line,) = hosts.bed.ssh(node, shown, timeout=300).splitlines()
        assert line == "-rw------- /etc/rancher/k3s/agent-token"


def test_a_second_run_changes_nothing(hosts: Hosts) -> None:
    before = hosts.services()

    assert hosts.install() == dict.fromkeys(SERVICES, 0)

    assert hosts.services() == before


def test_pods_reach_one_another(hosts: Hosts) -> None:
    for node in SERVICES:
        hosts.run(node, "serve", "80")
    for node in SERVICES:
        hosts.address(node)

    for node, other in ((SERVER, AGENT), (AGENT, SERVER)):
        assert f"web-{other}" in hosts.fetched(node, other)


def test_an_upgrade_keeps_pods_running(hosts: Hosts) -> None:
    before = hosts.containers()

    assert all(hosts.play("k3s/upgrade.yml", 1).values())

    assert hosts.containers() == before
    shown = hosts.kubectl("get", "nodes", "-o", "jsonpath={.items[*].status.nodeInfo}")
    assert shown.count(f'"kubeletVersion":"{hosts.releases.version(1)}"') == len(SERVICES)


def test_a_reset_leaves_nothing(hosts: Hosts) -> None:
    done = hosts.ansible("k3s/reset.yml")

    assert done.status == 0, done.output + done.errors
    assert hosts.left() == {SERVER: set(), AGENT: set()}
    assert [each.name for each in hosts.folder.iterdir()] == ["hosts.yml"]
    assert hosts.ansible("k3s/reset.yml").changed == dict.fromkeys(SERVICES, 0)
