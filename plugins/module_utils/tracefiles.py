# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that a perturbation follows: the delays of a distribution, the trace of a link.

They are read on the controller; the nodes are told numbers. Each error names the word, the file and
the line.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import stat
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from . import quality, units, words
from .texts import hint, plain, quote

FileReader = Callable[[str], str]
_Value = TypeVar("_Value")
Row = tuple[float, dict[str, float | int | None]]

MOST_BYTES = 1 << 20
MOST_ROWS = 10_000
# What leaves room for the rest of a message to the agent.
_MOST_MESSAGE = 3 << 18
_TIME = "time"
_COLUMNS = tuple(key for key in quality.READERS if key != "distribution")
_UNSHAPED = ("none", "unshaped")


@dataclass(frozen=True, slots=True)
class Delays:
    """Measured delays: mean and standard deviation in seconds, quantiles with mean 0 and sd 1."""

    mean: float
    deviation: float
    quantiles: tuple[float, ...]


def read_text(name: str) -> str:
    """Return the text of a file.

    Raises:
        ValueError: if it is not there, no plain file, larger than MOST_BYTES, or no text.
    """
    try:
        # Not to wait for whoever writes into a pipe.
        handle = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no name of a file"
        raise ValueError(f"cannot be read ({reason})") from error
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError("is no plain file")
        data = os.read(handle, MOST_BYTES + 1)
    finally:
        os.close(handle)
    if len(data) > MOST_BYTES:
        raise ValueError(f"is larger than {units.show_size(MOST_BYTES)}")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError("is no text") from error


def beside(*folders: Path) -> FileReader:
    """Return a reader that looks for a relative name in some folders, one after another."""

    def read(name: str) -> str:
        return read_text(find(name, *folders))

    return read


def find(name: str, *folders: Path) -> str:
    """Return the whole path of a file in the first folder that has it, else the name as it is."""
    if "\0" in name or len(name) > 4096:
        return name
    found = ((folder / name).absolute() for folder in folders)
    return next((str(path) for path in found if os.path.isfile(path)), name)  # noqa: PTH113


def read_delays(value: object, read_file: FileReader) -> Delays:
    """Return the delays of a file with one on each line, such as ``12.5ms``.

    Raises:
        ValueError: if the value is no file, or the file is wrong.
    """
    if not isinstance(value, str) or not value:
        known = ", ".join(quality.DISTRIBUTIONS)
        raise ValueError(f"distribution: {quote(value)} is none of {known}, and no file of delays")
    try:
        text = read_file(value)
    except ValueError as error:
        known = ", ".join(quality.DISTRIBUTIONS)
        raise ValueError(
            f"distribution: {quote(value)} is none of {known}, and as a file it {error}"
        ) from error
    return _parse_delays(plain(value), text)


@functools.lru_cache(maxsize=4)
def _parse_delays(name: str, text: str) -> Delays:
    lines = _lines("distribution", name, text)
    delays = [_read(f"distribution: {name}:{at}", line, units.duration) for at, line in lines]
    if len(set(delays)) < 2:
        raise ValueError(f"distribution: {name}: the delays do not scatter; give delay instead")
    quantiles = quality.standardised(delays)
    return Delays(statistics.fmean(delays), statistics.pstdev(delays), quantiles)


def read_trace(value: object, read_file: FileReader) -> tuple[Row, ...]:
    """Return the rows of a trace: seconds after the first row, and the quality from then on.

    Args:
        value: the name of a file with comma-separated values, or rows as this function returns
            them. The file's first line names the columns: ``time`` and some of rate (or bw), delay,
            jitter, loss, burst, duplicate, reorder, corrupt. Times are seconds, or have a unit, and
            rise. An empty cell repeats the one above it; the rate ``none`` is unshaped.
        read_file: returns the text of a file.

    Raises:
        ValueError: if it is neither, or the file is wrong.
    """
    if isinstance(value, (list, tuple)):
        rows = tuple(_row(index, row) for index, row in enumerate(value[: MOST_ROWS + 1], 1))
        return _checked("trace", rows)
    if not isinstance(value, str) or not value:
        raise ValueError(f"trace: {quote(value)} is no name of a file")
    try:
        text = read_file(value)
    except ValueError as error:
        raise ValueError(f"trace: {quote(value)} {error}") from error
    return _parse_trace(plain(value), text)


def _row(number: int, row: object) -> Row:
    """Return a row that was given in numbers."""
    if not isinstance(row, (list, tuple)) or len(row) != 2 or not isinstance(row[1], Mapping):
        raise ValueError(f"trace: row {number}: write [seconds, {{rate: bits a second}}]")
    numbers = {str(key): value for key, value in row[1].items()}
    try:
        quality.Quality.from_dict(numbers)
        return float(row[0]), numbers
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"trace: row {number}: {error}") from error


@functools.lru_cache(maxsize=4)
def _parse_trace(name: str, text: str) -> tuple[Row, ...]:
    (first, header), *lines = _lines("trace", name, text)
    columns = _columns(f"trace: {name}:{first}", header)
    rows: list[Row] = []
    for at, line in lines:
        place = f"trace: {name}:{at}"
        moment, numbers = _cells(place, columns, line, rows[-1][1] if rows else {})
        begin = rows[0][0] if rows else moment
        rows.append((moment, numbers))
        if len(rows) > 1 and moment <= rows[-2][0]:
            raise ValueError(f"{place}: time: must be later than on the line before")
    begin = rows[0][0] if rows else 0.0
    return _checked(f"trace: {name}", [(round(t - begin, 6), numbers) for t, numbers in rows])


def _columns(place: str, header: str) -> list[str]:
    names = [words.LINK_WORDS.get(cell.strip(), cell.strip()) for cell in header.split(",")]
    known = (_TIME, *_COLUMNS)
    for name in names:
        if name not in known:
            raise ValueError(f"{place}: {plain(name)}: unknown column; {hint(name, known)}")
        if names.count(name) > 1:
            raise ValueError(f"{place}: {name}: the column stands twice")
    if _TIME not in names or len(names) < 2:
        raise ValueError(
            f"{place}: needs the column time and another, such as time,rate,delay,loss"
        )
    return names


def _cells(
    place: str, columns: Sequence[str], line: str, above: dict[str, float | int | None]
) -> Row:
    cells = [cell.strip() for cell in line.split(",")]
    if len(cells) != len(columns):
        raise ValueError(f"{place}: has {len(cells)} values for {len(columns)} columns")
    moment, numbers = 0.0, {}
    for column, cell in zip(columns, cells, strict=True):
        if column == _TIME:
            moment = _read(f"{place}: time", cell, _seconds)
        elif cell:
            numbers[column] = _read(f"{place}: {column}", cell, _reader(column))
        elif column in above:
            numbers[column] = above[column]
        else:
            raise ValueError(f"{place}: {column}: is empty, and nothing stands above it")
    return moment, numbers


def _reader(column: str) -> Callable[[object], float | int | None]:
    if column == "rate":
        return lambda cell: None if cell in _UNSHAPED else units.rate(cell)
    return quality.READERS[column]


def _seconds(cell: object) -> float:
    """Return seconds, of a bare number too, as most traces have them."""
    text = str(cell)
    return units.duration(f"{text}s" if text[-1:].isdigit() else text)


def _checked(place: str, rows: Sequence[Row]) -> tuple[Row, ...]:
    if not rows:
        raise ValueError(f"{place}: has no rows")
    if len(rows) > MOST_ROWS:
        raise ValueError(f"{place}: has more than {MOST_ROWS} rows")
    if any(later[0] <= earlier[0] for earlier, later in itertools.pairwise(rows)):
        raise ValueError(f"{place}: the times must rise")
    if not 0 <= rows[0][0] <= rows[-1][0] < float("inf"):
        raise ValueError(f"{place}: the times must be zero or more seconds")
    if len(json.dumps(rows)) > _MOST_MESSAGE:
        raise ValueError(f"{place}: is too much for one message; leave out rows or columns")
    return tuple(rows)


def _lines(word: str, name: str, text: str) -> list[tuple[int, str]]:
    """Return the number and text of each line that is neither empty nor a comment."""
    numbered = enumerate(text.splitlines(), 1)
    lines = [(at, line) for at, line in numbered if line.strip() and not line.startswith("#")]
    if not lines:
        raise ValueError(f"{word}: {name}: is empty")
    if len(lines) > MOST_ROWS + 1:
        raise ValueError(f"{word}: {name}: has more than {MOST_ROWS} lines")
    return lines


def _read(place: str, text: str, reader: Callable[[object], _Value]) -> _Value:
    return words.read_with(place, text.strip(), reader)
