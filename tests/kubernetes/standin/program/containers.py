# SPDX-License-Identifier: GPL-3.0-or-later
"""containerd: its settings, and the archives of images that it is to have."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from .children import Children, looks
from .saying import say
from .settings import PAUSE_IMAGE, Settings

SOCKET = "/run/k3s/containerd/containerd.sock"
_STATE = "/run/k3s/containerd"
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.zstd")
_SYS_RESOURCE = 24
_PATIENCE = 600.0


def full_name(image: str) -> str:
    """Return an image's name as containerd keeps it."""
    first, _, rest = image.partition("/")
    if not rest:
        return f"docker.io/library/{image}"
    return image if "." in first or ":" in first or first == "localhost" else f"docker.io/{image}"


def start(settings: Settings, children: Children) -> None:
    """Start containerd, and return when it answers."""
    folder = settings.data_dir / "agent"
    (folder / "etc" / "containerd").mkdir(parents=True, exist_ok=True)
    (folder / "containerd").mkdir(parents=True, exist_ok=True)
    config = folder / "etc" / "containerd" / "config.toml"
    config.write_text(configuration(settings, children.programs))
    words = ["-c", str(config), "-a", SOCKET, "--state", _STATE]
    words += ["--root", str(folder / "containerd"), "--log-level", "warn"]
    children.start("containerd", words, folder / "containerd" / "containerd.log")
    began = time.monotonic()
    for pause in looks():
        try:
            children.run("ctr", "-a", SOCKET, "version")
            return
        except RuntimeError:
            if ended := children.ended():
                raise RuntimeError(ended) from None
        if time.monotonic() - began > _PATIENCE:
            raise RuntimeError("containerd does not answer")
        time.sleep(pause)


def configuration(settings: Settings, programs: Path) -> str:
    """Return what containerd is told."""
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    runc = f"{cri}.containerd.runtimes.runc"
    etc = settings.data_dir / "agent" / "etc"
    snapshotter = settings.text("snapshotter", "overlayfs")
    pause = full_name(settings.text("pause-image", PAUSE_IMAGE))
    sections = {
        cri: {
            "sandbox_image": pause,
            "stream_server_address": "127.0.0.1",
            "stream_server_port": "10010",
            "restrict_oom_score_adj": not may_raise_limits(),
            "disable_apparmor": not Path("/sys/module/apparmor/parameters/enabled").exists(),
            "disable_hugetlb_controller": True,
            "enable_unprivileged_ports": True,
            "enable_unprivileged_icmp": True,
        },
        f"{cri}.containerd": {"snapshotter": snapshotter, "default_runtime_name": "runc"},
        runc: {"runtime_type": "io.containerd.runc.v2"},
        f"{runc}.options": {
            "SystemdCgroup": has_systemd(),
            "BinaryName": str(programs / "runc"),
        },
        'plugins."io.containerd.internal.v1.opt"': {
            "path": str(settings.data_dir / "agent" / "containerd")
        },
        f"{cri}.cni": {"bin_dir": str(programs / "cni"), "conf_dir": str(etc / "cni" / "net.d")},
    }
    lines = ["# Made by the stand-in for K3s at every start.", "version = 2"]
    lines.append('disabled_plugins = ["io.containerd.snapshotter.v1.btrfs",')
    lines.append('  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]')
    for section, values in sections.items():
        lines += ["", f"[{section}]"]
        lines += [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    return "\n".join(lines) + "\n"


def has_systemd() -> bool:
    """Return whether systemd makes control groups: like K3s, if it runs this and has cpusets."""
    unified = Path("/sys/fs/cgroup/cgroup.controllers")
    known = (unified if unified.exists() else Path("/proc/self/cgroup")).read_text()
    return "cpuset" in known and bool(os.environ.get("INVOCATION_ID"))


def may_raise_limits() -> bool:
    """Return whether processes may be shielded from the kernel's want of memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    bits = next(line.split()[1] for line in lines if line.startswith("CapEff"))
    return bool(int(bits, 16) >> _SYS_RESOURCE & 1)


def import_images(
    settings: Settings, children: Children, seen: dict[Path, tuple[int, int]]
) -> None:
    """Import the archives that are new, or other than they were."""
    folder = settings.data_dir / "agent" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.iterdir()):
        if not path.name.endswith(_ARCHIVES) or path.name.startswith("."):
            continue
        found = path.stat()
        if seen.get(path) == (found.st_mtime_ns, found.st_size):
            continue
        began = time.monotonic()
        seen[path] = (found.st_mtime_ns, found.st_size)
        try:
            told = ctr(children, "images", "import", str(path))
        except RuntimeError as error:
            say(f"Failed to import images from {path}: {error}", "error")
            continue
        for line in told.splitlines():
            if line.startswith("unpacking "):
                name = line.split()[1]
                ctr(children, "images", "label", name, "io.cri-containerd.pinned=pinned")
        say(f"Imported images from {path} in {time.monotonic() - began:.3f}s")


def ctr(children: Children, *words: str) -> str:
    """Return what containerd's tool prints."""
    return children.run("ctr", "-a", SOCKET, "-n", "k8s.io", *words)


def environment() -> dict[str, str]:
    """Return what the tool is told where somebody else calls it."""
    return {**os.environ, "CONTAINERD_ADDRESS": SOCKET, "CONTAINERD_NAMESPACE": "k8s.io"}
