# SPDX-License-Identifier: GPL-3.0-or-later
"""What this machine can do for testbeds, local ones above all, and how to get what is missing."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

from pkgctl import image, probes
from pkgctl.errors import PkgctlError
from pkgctl.nodeside import baseline
from pkgctl.probes import Probe, ProbeError
from pkgctl.remote import kvm, needs, virsh

OK, MISSING, UNTRIED = "ok", "missing", "untried"

_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_CHROOT": 18, "CAP_SYS_ADMIN": 21, "CAP_MKNOD": 27}
_PRESSURE = Path("/proc/pressure/cpu")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        state: ``ok``, ``missing``, or ``untried`` where trying takes rights that are not there.
        detail: what was found, in a few words.
        needed: whether a local testbed cannot run without it.
        remedy: how to get it.
    """

    name: str
    state: str
    detail: str
    needed: bool = False
    remedy: str = ""


@dataclass(frozen=True)
class Feature:
    """A feature of the kernel: how it is tried, and how a machine gets it."""

    name: str
    probe: Probe
    remedy: str
    needed: bool = True


@dataclass(frozen=True)
class Tool:
    """A program that is called, or that only the tests or later substrates call."""

    name: str
    package: str
    use: str
    needed: bool = False


FEATURES = (
    Feature("namespaces", probes.namespaces, "a kernel with CONFIG_NAMESPACES; unshare allowed"),
    Feature("control groups", probes.control_groups, "mount cgroups with cpu, memory and pids"),
    Feature("links", probes.links, "modprobe veth (CONFIG_VETH)"),
    Feature("rates", probes.shaping, "modprobe sch_htb (CONFIG_NET_SCH_HTB)"),
    Feature("packet rules", probes.packet_rules, "modprobe nf_tables (CONFIG_NF_TABLES)"),
    Feature("packet queue", probes.packet_queue, "modprobe nfnetlink_queue nft_queue"),
    Feature("overlay", probes.overlay, "modprobe overlay (CONFIG_OVERLAY_FS)"),
    Feature("netem", probes.netem, "", needed=False),
)
TOOLS = (
    Tool("nsenter", "util-linux", "playbooks enter the nodes", needed=True),
    Tool("mke2fs", "e2fsprogs", "makes the nodes' disks", needed=True),
    Tool("ansible-playbook", "ansible-core", "runs the playbooks", needed=True),
    Tool("ping", "iputils-ping", "a witness of the tests"),
    Tool("iperf3", "iperf3", "a witness of the tests"),
    Tool("tc", "iproute2", "a witness of the tests"),
    Tool("nft", "nftables", "a witness of the tests"),
    Tool("stress-ng", "stress-ng", "loads nodes beside their jobs"),
    Tool("xsltproc", "xsltproc", "virtual machines: writes what the plugin cannot say"),
    Tool("ssh", "openssh-client", "virtual machines: reaches the nodes"),
)
PACKAGES = ("ansible-core", "ansible-runner", "pydantic", "polars", "scipy", "plotly")


def examine() -> list[Finding]:
    """Return everything that was looked at, in the order of a reader's questions."""
    findings = [_rights(), _kernel(), _machine()]
    findings += (_feature(feature) for feature in FEATURES)
    findings.append(_disk())
    findings.append(_backend(findings))
    findings.append(_baseline())
    findings.append(_pressure())
    findings += (_tool(tool) for tool in TOOLS)
    findings += _virtual_machines()
    findings += _versions()
    return findings


def lacking(findings: Sequence[Finding]) -> list[Finding]:
    """Return what a local testbed needs and this machine has not.

    What could not be tried is not counted: what kept it from being tried is in the list.
    """
    return [each for each in findings if each.needed and each.state == MISSING]


def _rights() -> Finding:
    remedy = "run it as root: sudo pkgctl doctor"
    if os.geteuid() != 0:
        return Finding("root", MISSING, f"user {os.geteuid()}", needed=True, remedy=remedy)
    held = effective_capabilities(Path("/proc/self/status").read_text())
    absent = [name for name, bit in _CAPABILITIES.items() if not held >> bit & 1]
    if absent:
        remedy = f"give the container {' '.join(absent)}, or run it privileged"
        return Finding("root", MISSING, f"without {', '.join(absent)}", needed=True, remedy=remedy)
    return Finding("root", OK, "with the capabilities that are needed", needed=True)


def effective_capabilities(status: str) -> int:
    """Return the mask of the effective capabilities, given a process's status file."""
    lines = (line.partition(":") for line in status.splitlines())
    return next(int(value, 16) for name, _, value in lines if name == "CapEff")


def _kernel() -> Finding:
    return Finding("kernel", OK, f"{platform.system()} {platform.release()}")


def _machine() -> Finding:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    cores = len(os.sched_getaffinity(0))
    return Finding("machine", OK, f"{cores} cores, {memory:.1f}Gi of memory")


def _feature(feature: Feature) -> Finding:
    return _tried(feature.name, feature.probe, feature.remedy, needed=feature.needed)


def _tried(name: str, probe: Callable[[], str], remedy: str, *, needed: bool) -> Finding:
    if os.geteuid() != 0:
        return Finding(name, UNTRIED, "only root can try it", needed=needed)
    try:
        return Finding(name, OK, probes.attempt(probe), needed=needed)
    except ProbeError as error:
        return Finding(name, MISSING, str(error), needed=needed, remedy=remedy)


def _disk() -> Finding:
    tool = _which("mke2fs")
    remedy = "modprobe loop ext4 (CONFIG_BLK_DEV_LOOP, CONFIG_EXT4_FS)"
    if tool is None:
        return Finding("disks", UNTRIED, "mke2fs is missing", needed=True)
    return _tried("disks", partial(probes.disk, tool), remedy, needed=True)


def _backend(findings: Sequence[Finding]) -> Finding:
    """Say what gives links their delay; the packet queue is the one thing that it takes."""
    queue = next(each for each in findings if each.name == "packet queue")
    detail = "the delay line (NFQUEUE)" if queue.state == OK else "none"
    return Finding("delay backend", queue.state, detail)


def _baseline() -> Finding:
    """Say what this machine does without shaping, if that was measured since it booted."""
    known = baseline.load()
    if known is None or known.rate is None or known.delay is None:
        return Finding("baseline", UNTRIED, "not measured yet: pkgctl verify does it")
    rate, delay = known.rate / 1e9, known.delay * 1e6
    return Finding("baseline", OK, f"{rate:.1f} Gbit/s by TCP, {delay:.0f} us one way")


def _pressure() -> Finding:
    if _PRESSURE.exists():
        return Finding("pressure", OK, "PSI: how long tasks wait for CPU, memory and IO")
    remedy = "boot with psi=1, or a kernel with CONFIG_PSI"
    return Finding("pressure", MISSING, "no /proc/pressure", remedy=remedy)


def _tool(tool: Tool) -> Finding:
    found = _which(tool.name)
    if found:
        return Finding(tool.name, OK, found, needed=tool.needed)
    how = "pip install" if tool.package == "ansible-core" else "apt-get install"
    remedy = f"see {tool.package}" if "." in tool.package else f"{how} {tool.package}"
    return Finding(tool.name, MISSING, tool.use, needed=tool.needed, remedy=remedy)


def _which(name: str) -> str | None:
    """Return where a program is; tools of the system hide from the PATH of users."""
    beside = str(Path(sys.executable).parent)
    places = [beside, os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]
    return shutil.which(name, path=os.pathsep.join(places))


def _virtual_machines() -> Iterator[Finding]:
    """Yield what virtual machines take, beside the tools; a local testbed needs none of it."""
    command = needs.which("pulumi")
    if command is None:
        remedy = f"see {needs.PULUMI_PAGE}"
        yield Finding("pulumi", MISSING, "declares testbeds as infrastructure", remedy=remedy)
    else:
        yield Finding("pulumi", OK, f"{needs.version(command)}, {command}")
    path = needs.plugin_path()
    yield from _missing("libvirt plugin", needs.plugin()) or [
        Finding("libvirt plugin", OK, f"{needs.PLUGIN_VERSION}, {path}")
    ]
    yield from _libvirt()
    yield _image()


def _missing(name: str, found: Iterable[needs.Need]) -> list[Finding]:
    return [Finding(name, MISSING, each.detail, remedy=each.remedy) for each in found]


def _libvirt() -> Iterator[Finding]:
    uri = needs.DEFAULT_URI
    absent = _missing("libvirt", needs.host(uri))
    if absent:
        yield from absent
        yield Finding("KVM", UNTRIED, "there is no libvirt to try it with")
        return
    yield Finding("libvirt", OK, f"{uri}, {virsh.version(uri)}")
    try:
        reason = kvm.trial(uri, f"pkgctl-doctor-{os.getpid()}")
    except PkgctlError as error:
        reason = str(error)
    if reason:
        remedy = "a processor with virtualisation that is let through to this machine"
        detail = f"virtual machines are emulated, which is slower: {reason}"
        yield Finding("KVM", MISSING, detail, remedy=remedy)
    else:
        yield Finding("KVM", OK, "runs guests")


def _image() -> Finding:
    try:
        found = image.find("")
    except PkgctlError as error:
        return Finding("image", MISSING, str(error), remedy="pkgctl image build")
    return Finding("image", OK, f"{found.fingerprint[:12]}, {found.disk}")


def _versions() -> Iterator[Finding]:
    yield Finding("pkgctl", OK, metadata.version("pkgctl"))
    yield Finding("python", OK, platform.python_version())
    for package in PACKAGES:
        try:
            yield Finding(package, OK, metadata.version(package))
        except metadata.PackageNotFoundError:
            yield Finding(package, MISSING, "", needed=True, remedy=f"pip install {package}")
