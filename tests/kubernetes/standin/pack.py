# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in as one file, and a release of it: the files that a release of K3s has.

    python -m tests.kubernetes.standin.pack [FOLDER [VERSION]]

What it runs is packed in that file: Kubernetes' programs, etcd, and containerd, runc and the CNI
plugins of this machine.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from tests.kubernetes import assets, images

VERSION = "v1.34.4+k3s1"
NEEDS = ("control-plane", "node")
_PROGRAM = Path(__file__).parent / "program"
_KEPT = 2 * 86400.0  # seconds that nobody asks for it
_START = b"#!/usr/bin/env python3\n"
_MAIN = "import sys\n\nfrom k3sstandin.main import main\n\nsys.exit(main())\n"
_KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl")
_CONTAINERS = ("containerd", "containerd-shim-runc-v2", "ctr", "runc")
_TABLES = ("iptables", "iptables-save", "iptables-restore")
# A program of the system that a node may lack, with the libraries that it may lack too.
_WRAPPER = """#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
LD_LIBRARY_PATH=$here/../../lib XTABLES_LIBDIR=$here/../../lib/xtables
export LD_LIBRARY_PATH XTABLES_LIBDIR
exec "$here/../../lib/xtables-nft-multi" {name} "$@"
"""
_C_LIBRARY = re.compile(r"/(libc|libm|libdl|libpthread|ld-linux[^/]*)\.so")


def cached(version: str = VERSION) -> Path:
    """Return the folder of a release in the user's cache, where it is made if it is not there."""
    text = hashlib.sha256(_digest(dict(_contents()), version).encode())
    for source in [Path(__file__), *sorted(_PROGRAM.glob("*.py"))]:
        text.update(source.read_bytes())
    folder = assets.CACHE / f"standin-{text.hexdigest()[:16]}"
    with assets.alone():
        if not folder.is_dir():
            part = Path(tempfile.mkdtemp(prefix="part-", dir=assets.CACHE))
            release(part, version)
            part.chmod(0o755)
            part.rename(folder)
        folder.touch()
        for other in assets.CACHE.glob("standin-*"):
            if other.stat().st_mtime < time.time() - _KEPT:
                shutil.rmtree(other)
    return folder


def release(folder: Path, version: str = VERSION) -> Path:
    """Make what a release of K3s for amd64 has, in a folder, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "k3s", version)
    archive = folder / "k3s-airgap-images-amd64.tar"
    images.write(archive, [images.pause(), images.busy()])
    (folder / "k3s-images.txt").write_text(f"{images.PAUSE}\n{images.BUSY}\n")
    sums = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in (folder / "k3s", archive, folder / "k3s-images.txt")
    ]
    (folder / "sha256sum-amd64.txt").write_text("".join(sums))
    return folder


def write(path: Path, version: str = VERSION) -> None:
    """Write the one file that is the stand-in."""
    body = dict(_contents())
    links = dict.fromkeys(_KUBERNETES, "hyperkube")
    body["links.json"] = json.dumps(links).encode()
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as out:
        out.write(_START)
        with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
            packed.writestr("__main__.py", _MAIN)
            for source in sorted(_PROGRAM.glob("*.py")):
                packed.writestr(f"k3sstandin/{source.name}", source.read_bytes())
            about = {"version": version, "digest": _digest(body, version)}
            packed.writestr("data/manifest.json", json.dumps(about))
            for name, each in body.items():
                packed.writestr(f"data/{name}", each)
    part.chmod(0o755)
    part.rename(path)


@cache
def _contents() -> tuple[tuple[str, bytes], ...]:
    """Return the programs by where they are unpacked."""
    files = {"bin/hyperkube": assets.path("kubelet").resolve(), "bin/etcd": assets.path("etcd")}
    files["bin/pki"] = assets.path("pki")
    files |= {f"bin/{name}": _of_system(name) for name in _CONTAINERS}
    files |= {f"bin/cni/{plugin}": assets.CNI / plugin for plugin in assets.PLUGINS}
    tables = _of_system("iptables").resolve()
    files["lib/xtables-nft-multi"] = tables
    files |= {f"lib/{path.name}": path for path in _libraries(tables)}
    extensions = next(Path("/usr/lib").glob("*/xtables"))
    files |= {f"lib/xtables/{path.name}": path for path in extensions.glob("*.so")}
    found = {name: path.read_bytes() for name, path in files.items()}
    found |= {f"bin/aux/{name}": _WRAPPER.format(name=name).encode() for name in _TABLES}
    return tuple(found.items())


def _of_system(name: str) -> Path:
    found = assets.which(name)
    if found is None:
        raise FileNotFoundError(", ".join(assets.lacking("node")))
    return found


def _libraries(program: Path) -> list[Path]:
    told = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    found = re.findall(r"=> (/\S+)", told)
    return [Path(each) for each in found if not _C_LIBRARY.search(each)]


def _digest(body: Mapping[str, bytes], version: str) -> str:
    text = hashlib.sha256(version.encode())
    for name, each in sorted(body.items()):
        text.update(name.encode() + hashlib.sha256(each).digest())
    return text.hexdigest()


if __name__ == "__main__":
    print(release(Path(sys.argv[1]), *sys.argv[2:]) if sys.argv[1:] else cached())
