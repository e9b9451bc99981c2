# SPDX-License-Identifier: GPL-3.0-or-later
"""What the disturbances of a run set, in the words of its experiment file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from pkgctl.nodeside import words

# The words of a perturbation that say what it does, not where and when.
WORDS = words.SETTING_WORDS
LONGEST = 80
LARGEST = 1 << 20


def settings(folder: Path) -> dict[str, str]:
    """Return what each perturbation sets, such as ``bw 5mbit, delay 40ms``.

    One that is not known, differs between cells, or is too long to quote is left out.
    """
    found = _perturbations(folder / "experiment.yaml")
    told = {name: ", ".join(_words(body)) for name, body in found.items()}
    return {name: text for name, text in told.items() if 0 < len(text) <= LONGEST}


def _perturbations(path: Path) -> dict[str, Mapping[str, object]]:
    try:
        text = path.read_text(encoding="utf-8")
        found = yaml.safe_load(text) if len(text) <= LARGEST else None
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return {}
    listed = found.get("perturbations") if isinstance(found, dict) else None
    items = listed.items() if isinstance(listed, dict) else ()
    return {str(name): body for name, body in items if isinstance(body, dict)}


def _words(body: Mapping[str, object]) -> Iterator[str]:
    for word in WORDS:
        value = body.get(word)
        # "${…}" stands for another value in each cell.
        if isinstance(value, str | int | float) and "${" not in str(value):
            yield f"{word} {str(value).lower() if isinstance(value, bool) else value}"
