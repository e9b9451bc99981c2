# SPDX-License-Identifier: GPL-3.0-or-later
"""What a wheel holds beside the package: the Ansible collection, where Ansible looks for it.

An editable installation must not copy it, or edits of the checkout would not be seen.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Collection(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the collection to wheels."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Include the collection's folder, links followed, unless the build is editable."""
        if version == "standard":
            build_data["force_include"]["ansible/collections/ansible_collections"] = (
                "ansible_collections"
            )
