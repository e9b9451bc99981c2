# SPDX-License-Identifier: GPL-3.0-or-later
"""CSV files read row by row, plain or gzipped, each fault with its file and line."""

from __future__ import annotations

import csv
import gzip
import itertools
import math
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from pkgctl.errors import SpecError

if TYPE_CHECKING:
    from _csv import Reader


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table, and where it stands."""

    file: Path
    line: int
    values: Mapping[str, str]

    def error(self, column: str, wanted: str) -> SpecError:
        """Return the error that a cell is not what it should be."""
        found = self.values[column]
        return SpecError(f"found {found!r}; {wanted}", file=self.file, line=self.line, key=column)

    def text(self, column: str) -> str | None:
        """Return a cell's text, None if it is empty or there is no such column."""
        return self.values.get(column, "").strip() or None

    def amount(self, column: str) -> float | None:
        """Return a number that is zero or more, None if the cell is empty."""
        text = self.text(column)
        if text is None:
            return None
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not 0 <= number < math.inf:
            raise self.error(column, "write a number that is zero or more")
        return number

    def count(self, column: str) -> int | None:
        """Return a whole number that is zero or more, None if the cell is empty."""
        number = self.amount(column)
        if number is not None and number != int(number):
            raise self.error(column, "write a whole number")
        return None if number is None else int(number)

    def need(self, column: str) -> float:
        """Return a number that must be there."""
        number = self.amount(column)
        if number is None:
            raise self.error(column, "write a number that is zero or more")
        return number


@dataclass(frozen=True, slots=True)
class Table:
    """An open table: its columns, and its rows, which are read as they are asked for."""

    file: Path
    columns: tuple[str, ...]
    rows: Iterator[Row]


@contextmanager
def open_table(path: Path) -> Iterator[Table]:
    """Give the table in a CSV file; a name that ends in ``.gz`` is unpacked on the way.

    Raises:
        SpecError: one line with file and line, also while the rows are read.
    """
    with _faults(path), _open(path) as stream:
        reader = csv.reader(stream, skipinitialspace=True)
        columns = _columns(path, next(reader, []))
        yield Table(path, columns, _rows(path, reader, columns))


def _open(path: Path) -> TextIO:
    opener = gzip.open if path.suffix == ".gz" else open
    # utf-8-sig: spreadsheets put a mark before the first column's name.
    return opener(path, "rt", encoding="utf-8-sig", newline="")


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    """Turn whatever a file can do wrong into one line."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise SpecError("it is not text in UTF-8; a trace is a CSV file", file=path) from error
    except csv.Error as error:
        raise SpecError(f"it is no CSV: {error}", file=path) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SpecError(f"it is no whole gzip file: {error}", file=path) from error
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror or error}", file=path) from error


def _columns(path: Path, header: list[str]) -> tuple[str, ...]:
    columns = tuple(name.strip() for name in header)
    if not any(columns):
        raise SpecError("it is empty; the first line must name the columns", file=path, line=1)
    twice = [name for name, count in Counter(columns).items() if count > 1]
    if twice:
        raise SpecError(f"two columns are called {twice[0]!r}", file=path, line=1)
    return columns


def _rows(path: Path, reader: Reader, columns: tuple[str, ...]) -> Iterator[Row]:
    for cells in itertools.filterfalse(_is_blank, reader):
        if len(cells) != len(columns):
            raise SpecError(
                f"found {len(cells)} cells; the header names {len(columns)} columns",
                file=path,
                line=reader.line_num,
            )
        yield Row(path, reader.line_num, dict(zip(columns, cells, strict=True)))


def _is_blank(cells: list[str]) -> bool:
    return not any(cells) and len(cells) <= 1
