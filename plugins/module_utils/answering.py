# SPDX-License-Identifier: GPL-3.0-or-later
"""What most modules do once they have their options: one act, and its failure in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .errors import DisturbanceError


def answer(module: Any, act: Callable[..., dict[str, Any]]) -> None:
    """End a module with what an act returns, or with why it could not be done.

    Args:
        module: Ansible's own, with the options read.
        act: takes the options, and whether only to say what would be done.
    """
    try:
        module.exit_json(**act(module.params, dry_run=module.check_mode))
    except (DisturbanceError, ValueError) as error:
        module.fail_json(msg=str(error))
