# SPDX-License-Identifier: GPL-3.0-or-later
"""A run told to people: the HTML report, the end of a terminal run, a comparison of two.

Importing this package costs nothing: what it needs is imported by the function that needs it.
"""

from __future__ import annotations

from pathlib import Path


def build(run_folder: Path) -> Path:
    """Write ``report.html``, ``metrics.parquet`` and ``summary.json`` and return the report.

    Raises:
        ResultsError: if the folder holds no readable ``run.json``.
    """
    from pkgctl.report.page import build as build_page

    return build_page(Path(run_folder))


def summary_text(run_folder: Path) -> str:
    """Return a run's answer and main numbers: at most 25 lines of at most 80 columns.

    Raises:
        ResultsError: if the folder holds no readable ``run.json``.
    """
    from pkgctl.report.terminal import summary_text as text_of

    return text_of(Path(run_folder))


def compare(run_a: Path, run_b: Path) -> str:
    """Return how the second run differs from the first, cell by cell, with 95 % intervals.

    Raises:
        ResultsError: if a folder holds no readable ``run.json``, or no cell is in both.
    """
    from pkgctl.report.comparison import compare as text_of

    return text_of(Path(run_a), Path(run_b))
