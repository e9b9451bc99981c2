# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens as K3s has them: ``K10<sha256 of the CA>::user:secret``, or the secret alone."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from dataclasses import dataclass
from pathlib import Path

from .settings import Settings, UsageError

_FULL = re.compile(r"K10([0-9a-f]{64})::([^:]+):(.+)")


@dataclass(frozen=True)
class Token:
    """A token in parts.

    Attributes:
        secret: what only members know.
        digest: of the certificate of the other side; empty in a short token.
    """

    secret: str
    digest: str = ""

    def trusts(self, certificate: str) -> bool:
        """Return whether the other side is the one that the token was given out for."""
        return not self.digest or self.digest == digest_of(certificate)


def digest_of(certificate: str) -> str:
    """Return what a full token says of a certificate."""
    return hashlib.sha256(certificate.encode()).hexdigest()


def parse(text: str) -> Token:
    """Return a token's parts."""
    text = text.strip()
    if text.startswith("K10"):
        match = _FULL.fullmatch(text)
        if match is None:
            raise UsageError("invalid token format")
        return Token(match[3], match[1])
    return Token(text)


def format_token(certificate: str, user: str, secret: str) -> str:
    """Return a full token."""
    return f"K10{digest_of(certificate)}::{user}:{secret}\n"


def given(settings: Settings, name: str) -> str:
    """Return the token that the settings hold or lead to; empty if there is none."""
    if text := settings.text(name):
        return text
    path = settings.text(f"{name}-file")
    if not path:
        return ""
    try:
        text = Path(path).read_text().strip()
    except OSError as error:
        raise UsageError(f"cannot read {name}-file {path}: {error.strerror}") from error
    if not text:
        raise UsageError(f"{name}-file {path} is empty")
    return text


def hashed(password: str, salt: bytes | None = None) -> str:
    """Return what is kept of a password of a node."""
    salt = os.urandom(8) if salt is None else salt
    made = hashlib.scrypt(password.encode(), salt=salt, n=1 << 10, r=8, p=1, dklen=32)
    return f"$1:{salt.hex()}:{made.hex()}"


def matches(password: str, kept: str) -> bool:
    """Return whether a password is the one that was kept."""
    salt = bytes.fromhex(kept.split(":")[1])
    return hmac.compare_digest(hashed(password, salt), kept)
