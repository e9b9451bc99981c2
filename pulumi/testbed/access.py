# SPDX-License-Identifier: GPL-3.0-or-later
"""The key pair that opens a testbed's machines: a file of its owner's, and nowhere else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pulumi
from pulumi.dynamic import CreateResult, ReadResult

from pkgctl.errors import MissingCapability, TestbedError
from pkgctl.nodeside import watchman
from testbed.files import prune
from testbed.provider import Props, Provider


class AccessProvider(Provider):
    """Makes the pair where there is none, and removes it with the stack."""

    replaced = ("path",)

    def create(self, props: Props) -> CreateResult:
        """Make the pair; one that is there already stays."""
        path = Path(props["path"])
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.chmod(0o700)
        if not path.exists():
            make_key(path, f"pkgctl {props['testbed']}")
        path.chmod(0o600)
        return CreateResult(str(path), {**props, "public": _public(path)})

    def read(self, id_: str, props: Props) -> ReadResult:
        """Return the pair, or nothing if it has gone."""
        path = Path(id_)
        if not path.exists() or not path.with_suffix(".pub").exists():
            return ReadResult("", {})
        return ReadResult(id_, {**props, "public": _public(path)})

    def delete(self, _id: str, _props: Props) -> None:
        """Remove the pair, and the folder if nothing else is there."""
        path = Path(_id)
        path.unlink(missing_ok=True)
        path.with_suffix(".pub").unlink(missing_ok=True)
        watchman.welcome(path.parent)  # forgets that it was dismissed: nothing is left to watch
        prune(path.parent)


class Access(pulumi.dynamic.Resource, module="testbed", name="Access"):
    """The key pair of a testbed; ``public`` is its public part."""

    public: pulumi.Output[str]
    path: pulumi.Output[str]

    def __init__(
        self, name: str, path: str, testbed: str, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Declare the pair.

        Args:
            name: the resource's.
            path: the private key's file.
            testbed: whose it is; a comment in the key.
            opts: the resource's.
        """
        props = {"path": path, "testbed": testbed, "public": None}
        super().__init__(AccessProvider(), name, props, opts)


def make_key(path: Path, comment: str) -> None:
    """Write a key pair without a passphrase.

    Raises:
        MissingCapability: if there is no ssh-keygen.
        TestbedError: if it fails.
    """
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        lacking = "ssh-keygen is missing: apt-get install openssh-client"
        raise MissingCapability(lacking) from error
    if done.returncode:
        raise TestbedError(f"ssh-keygen failed: {' '.join(done.stderr.split())}")


def _public(path: Path) -> str:
    return path.with_suffix(".pub").read_text().strip()
