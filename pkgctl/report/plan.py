# SPDX-License-Identifier: GPL-3.0-or-later
"""How an experiment is laid out: its factors, their baselines, and what compares with what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from pkgctl.measure import phases
from pkgctl.measure.record import Cell, Record, Scalar
from pkgctl.report.numbers import HARD

QUIET = ("none", "off", "no", "false", "baseline", "normal", "undisturbed")
DISTURBING_NAMES = ("perturb", "perturbation", "perturbations", "disturbance", "disturb")


@dataclass(frozen=True)
class Plan:
    """The factors of a run and the roles they play in its report.

    Attributes:
        levels: each factor's levels in the order of the experiment.
        disturbing: the factor that says which disturbance a cell has, if there is one.
        scale: the factor with numbers as levels, the axis along which cells are compared.
        windowed: whether cells have disturbance windows, so that phases mean something.
    """

    record: Record
    levels: Mapping[str, tuple[Scalar, ...]]
    disturbing: str | None
    scale: str | None
    windowed: bool

    @property
    def factors(self) -> tuple[str, ...]:
        """The names of the factors."""
        return tuple(self.levels)

    @property
    def steady(self) -> tuple[str, ...]:
        """The factors that are not disturbances."""
        return tuple(name for name in self.levels if name != self.disturbing)

    @property
    def telling(self) -> str:
        """The phase in which a disturbance shows: "during" if there are windows, else "all"."""
        return phases.DURING if self.windowed else phases.ALL

    def baseline(self, factor: str) -> Scalar:
        """Return the level to compare with: one that says "none", else the first."""
        levels = self.levels[factor]
        quiet = [level for level in levels if level is False or str(level).lower() in QUIET]
        return (quiet or list(levels))[0]

    def where(self, *without: str) -> str:
        """Return the baseline of all factors but some, in brackets, for the end of a sentence."""
        levels = {name: self.baseline(name) for name in self.levels if name not in without}
        return f" ({show_levels(levels)})" if levels else ""

    def cell(self, **chosen: Scalar) -> Cell | None:
        """Return the cell at these levels, with every other factor at its baseline."""
        wanted = {name: self.baseline(name) for name in self.levels} | chosen
        return next((cell for cell in self.record.cells if cell.factors == wanted), None)

    def phase_of(self, cell: Cell) -> str:
        """Return the phase that tells most of a cell: "during" where it is disturbed."""
        active = any(window.active for run in cell.runs for window in run.windows)
        return phases.DURING if active and self.windowed else phases.ALL

    def ends(self, factor: str) -> tuple[Scalar, Scalar]:
        """Return the lowest and the highest level of a factor of numbers."""
        return lowest_and_highest(self.levels[factor])

    def others(self, *without: str) -> Iterator[dict[str, Scalar]]:
        """Yield every combination of the levels of all other factors."""
        names = [name for name in self.levels if name not in without]
        for levels in product(*(self.levels[name] for name in names)):
            yield dict(zip(names, levels, strict=True))


def plan_of(record: Record) -> Plan:
    """Return the layout of a run."""
    levels = _levels(record)
    windows = {window.name for run in record.runs for window in run.windows}
    disturbing = _disturbing(levels, windows)
    numeric = [
        name for name, found in levels.items() if name != disturbing and all(map(is_number, found))
    ]
    longest = max(numeric, key=lambda name: len(levels[name]), default=None)
    return Plan(record, levels, disturbing, longest, bool(windows))


def _levels(record: Record) -> dict[str, tuple[Scalar, ...]]:
    """Return the declared levels, and those that only cells know."""
    found: dict[str, dict[Scalar, None]] = {
        name: dict.fromkeys(levels) for name, levels in record.factors.items()
    }
    for cell in record.cells:
        for name, level in cell.factors.items():
            found.setdefault(name, {})[level] = None
    return {name: tuple(levels) for name, levels in found.items() if levels}


def _disturbing(levels: Mapping[str, tuple[Scalar, ...]], windows: set[str]) -> str | None:
    named = [name for name, found in levels.items() if windows & {str(level) for level in found}]
    usual = [name for name in levels if name.lower() in DISTURBING_NAMES]
    return next(iter(named or usual), None)


def is_number(level: Scalar) -> bool:
    """Return whether a level is a number (a truth value is not one)."""
    return isinstance(level, int | float) and not isinstance(level, bool)


def lowest_and_highest(levels: Iterable[Scalar]) -> tuple[Scalar, Scalar]:
    """Return the ends of some levels that are numbers."""
    ordered = sorted(levels, key=_size)
    return ordered[0], ordered[-1]


def _size(level: Scalar) -> float:
    return float(level) if isinstance(level, int | float) else 0.0


def show_level(factor: str, level: Scalar) -> str:
    """Return ``replicas = 8``."""
    return f"{factor}{HARD}={HARD}{show_scalar(level)}"


def show_scalar(level: Scalar) -> str:
    """Return a level as the experiment file writes it."""
    if isinstance(level, bool):
        return str(level).lower()
    return f"{level:g}" if isinstance(level, float) else str(level)


def show_levels(levels: Mapping[str, Scalar]) -> str:
    """Return ``replicas = 8, perturb = none``; "the only cell" without factors."""
    return ", ".join(show_level(*item) for item in levels.items()) or "the only cell"
