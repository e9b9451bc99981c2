# SPDX-License-Identifier: GPL-3.0-or-later
"""Units: long-running services that a node keeps running, as values.

One declaration is kept by systemd on nodes that have it, and by the node agent on others. What both
make of it is the same: the words of systemd's own unit files say what that is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from .errors import DisturbanceError
from .identity import Identity

# On stop only the main process ends, or all that the unit has started.
PROCESS, GROUP = "process", "group"
KILLS = (GROUP, PROCESS)
HIDDEN = "(hidden)"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
# What systemd reads as it stands.
_PLAIN = re.compile(r"[A-Za-z0-9_@+=:,./-]+")
_MOST_SECONDS = 86_400.0
_MOST_FILES = 1 << 30


@dataclass(frozen=True, slots=True)
class Unit:
    """One service as it is declared.

    Attributes:
        name: its name on the node.
        command: the program and its arguments.
        environment: its variables, beside what every unit gets.
        environment_files: files of the node with more of them, read at each start; one that is not
            there is passed over.
        pre: commands that run before each start, whose failure does not matter.
        notify: whether it says itself when it is ready (sd_notify).
        restart_seconds: how long after its end it is started again.
        kill: ``process`` ends the main process alone, ``group`` all that it has started.
        nofile: how many files it may have open; None is as many as the kernel lets anyone.
        grace: how long it may take to end before it is killed, in seconds.
        fingerprint: what else it depends on, as a text: another one is another declaration.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    environment_files: tuple[str, ...] = ()
    pre: tuple[tuple[str, ...], ...] = ()
    notify: bool = False
    restart_seconds: float = 5.0
    kill: str = GROUP
    nofile: int | None = None
    grace: float = 30.0
    fingerprint: str = ""

    def body(self) -> dict[str, Any]:
        """Return the declaration as JSON has it; parse reads it."""
        known = {each.name: getattr(self, each.name) for each in fields(self)}
        found: dict[str, Any] = json.loads(json.dumps({**known, "environment": {}}))
        return {**found, "environment": dict(self.environment)}


def parse(body: Mapping[str, Any]) -> Unit:
    """Return the unit that a mapping declares; what is left out, or None, is as by default.

    Raises:
        DisturbanceError: in one line, naming the unit and what is wrong with it.
    """
    given = {key: value for key, value in body.items() if value is not None}
    name = check_name(given.get("name"))
    try:
        return Unit(**{**_read(given), "name": name})
    except _WrongError as error:
        raise DisturbanceError(f"unit {name}: {error}") from None


class _WrongError(Exception):
    """What is wrong with a declaration, without its name."""


def check_name(name: object) -> str:
    """Return a unit's name.

    Raises:
        DisturbanceError: if it cannot be one.
    """
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise DisturbanceError(f"{name!r} is no name of a unit: letters, digits, . _ and -, 63 at most")


def _read(given: Mapping[str, Any]) -> dict[str, Any]:
    known = {each.name for each in fields(Unit)}
    if unknown := sorted(map(str, given.keys() - known)):
        raise _WrongError(f"{unknown[0]}: unknown; known are {', '.join(sorted(known))}")
    return {
        "command": _command("command", given.get("command")),
        "environment": _environment(given.get("environment", {})),
        "environment_files": tuple(_paths(given.get("environment_files", ()))),
        "pre": tuple(_command("pre", each) for each in _list("pre", given.get("pre", ()))),
        "notify": _flag(given.get("notify", False)),
        "restart_seconds": _seconds("restart_seconds", given.get("restart_seconds", 5.0)),
        "kill": _kill(given.get("kill", GROUP)),
        "nofile": _count(given.get("nofile")),
        "grace": _seconds("grace", given.get("grace", 30.0)),
        "fingerprint": _line(given.get("fingerprint", "")),
    }


def _list(key: str, value: object) -> Sequence[Any]:
    if isinstance(value, (list, tuple)):
        return value
    raise _WrongError(f"{key}: must be a list, not {value!r}")


def _command(key: str, value: object) -> tuple[str, ...]:
    words = tuple(_text(key, word) for word in _list(key, value if value is not None else ()))
    if not words or not words[0]:
        raise _WrongError(f"{key}: needs a program")
    if not words[0].startswith("/") and ("/" in words[0] or not _PLAIN.fullmatch(words[0])):
        raise _WrongError(f"{key}: {words[0]!r} is neither a path from the root nor a plain name")
    if words[0][0] in "-@:+":
        raise _WrongError(f"{key}: {words[0]!r} is no program")
    return words


def _text(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise _WrongError(f"{key}: {value!r} is no text")
    if _FORBIDDEN.search(value):
        raise _WrongError(f"{key}: has a control character")
    return value


def _environment(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise _WrongError("environment: must be a mapping of names to texts")
    for name, text in value.items():
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
            raise _WrongError(f"environment: {name!r} is no name of a variable")
        # Its value may be a secret, and is never shown.
        if not isinstance(text, str):
            raise _WrongError(f"environment: {name} must be a text")
        _text(f"environment: {name}", text)
    return dict(value)


def _paths(value: object) -> Iterator[str]:
    for path in _list("environment_files", value):
        if not _text("environment_files", path).startswith("/") or "\n" in path:
            raise _WrongError(f"environment_files: {path!r} is no path from the root")
        yield path


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise _WrongError(f"notify: must be true or false, not {value!r}")


def _seconds(key: str, value: object) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and 0 <= value <= _MOST_SECONDS:  # type: ignore[operator]
        return float(value)  # type: ignore[arg-type]
    raise _WrongError(f"{key}: must be seconds between 0 and a day, not {value!r}")


def _kill(value: object) -> str:
    if value in KILLS:
        return str(value)
    raise _WrongError(f"kill: must be {' or '.join(KILLS)}, not {value!r}")


def _count(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MOST_FILES:
        return value
    raise _WrongError(f"nofile: must be a whole number above zero, not {value!r}")


def _line(value: object) -> str:
    if "\n" in (text := _text("fingerprint", value)):
        raise _WrongError("fingerprint: must be one line")
    return text


# Where its processes are.


def system(testbed: str, node: str) -> str:
    """Return the path of the control group of a node's units, beside the node's own.

    What keeps a node running is not counted against its capacity.
    """
    return f"pkgctl/{testbed}/system/{node}"


def system_of(node: Identity) -> str:
    """Return the path of the control group of a node's units."""
    return system(node.testbed, node.name)


def group_of(node: Identity, name: str) -> str:
    """Return the path of the control group of one unit."""
    return f"{system_of(node)}/unit-{name}"


# As a unit file of systemd's.


def shown(unit: Unit) -> str:
    """Return a unit as it may be shown to anyone: the values of its variables are not in it."""
    return hidden(text(unit))


def hidden(unit_file: str) -> str:
    """Return a unit file without the values of variables."""
    return re.sub(r'(?m)^Environment="?([A-Za-z0-9_]+)=.*$', rf"Environment=\1={HIDDEN}", unit_file)


def text(unit: Unit) -> str:
    """Return the file from which systemd keeps a unit running."""
    service = [
        f"Type={'notify' if unit.notify else 'exec'}",
        *(f"Environment={_quoted(f'{k}={v}')}" for k, v in sorted(unit.environment.items())),
        *(f"EnvironmentFile=-{path.replace('%', '%%')}" for path in unit.environment_files),
        *(f"ExecStartPre=-{_joined(words)}" for words in unit.pre),
        f"ExecStart={_joined(unit.command)}",
        "Delegate=yes",
        f"KillMode={'process' if unit.kill == PROCESS else 'control-group'}",
        "Restart=always",
        f"RestartSec={unit.restart_seconds:g}",
        "TimeoutStartSec=0",
        f"TimeoutStopSec={unit.grace:g}",
        f"LimitNOFILE={'infinity' if unit.nofile is None else unit.nofile}",
        *("LimitNPROC=infinity", "LimitCORE=infinity", "TasksMax=infinity"),
    ]
    # A comment: systemd does not know it, and a file with another is another file.
    noted = [f"# fingerprint: {unit.fingerprint}"] if unit.fingerprint else []
    target = "network-online.target"
    # A service that fails again and again is started again all the same.
    never = "StartLimitIntervalSec=0"
    head = [f"Description={unit.name}", f"Wants={target}", f"After={target}", never]
    parts = [
        [*noted, "[Unit]", *head],
        ["[Service]", *service],
        ["[Install]", "WantedBy=multi-user.target"],
    ]
    return "\n".join("".join(f"{line}\n" for line in part) for part in parts)


def _joined(words: Sequence[str]) -> str:
    # In a command systemd replaces $VARIABLES too.
    return " ".join(_quoted(word.replace("$", "$$")) for word in words)


def _quoted(word: str) -> str:
    safe = word.replace("%", "%%")
    if _PLAIN.fullmatch(safe):
        return safe
    for letter, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\t", "\\t")):
        safe = safe.replace(letter, escaped)
    return f'"{safe}"'


# Files of variables, as systemd reads them.

_VALUE = r"""(?:"(?:\\[\s\S]|[^"\\])*"|'[^']*')"""
_LINE = re.compile(
    rf"[ \t]*(?:[#;][^\n]*|(?P<key>[A-Za-z_]\w*)[ \t]*=[ \t]*"
    rf"(?P<quoted>(?:{_VALUE}[ \t]*)*)(?P<rest>(?:\\[\s\S]|[^\n\\])*)|[^\n]*)(?:\n|$)",
    re.ASCII,
)


def read_environment(content: str) -> dict[str, str]:
    """Return the variables of a file; what is no assignment in it is passed over."""
    found: dict[str, str] = {}
    for line in _LINE.finditer(content):
        if line["key"]:
            pieces = (_unquoted(piece) for piece in re.findall(_VALUE, line["quoted"]))
            found[line["key"]] = "".join(pieces) + _unescaped(line["rest"].strip())
    return found


def _unquoted(piece: str) -> str:
    inner = piece[1:-1]
    if piece[0] == "'":
        return inner
    return re.sub(r'\\(["\\`$])', r"\1", inner.replace("\\\n", ""))


def _unescaped(rest: str) -> str:
    return re.sub(r"\\([\s\S])", lambda found: found[1].strip("\n"), rest)


def differing(before: Unit | None, after: Unit) -> list[str]:
    """Return which parts of a declaration differ; all of them have a name, none a value."""
    if before is None:
        return ["declaration"]
    return [
        each.name
        for each in fields(Unit)
        if getattr(before, each.name) != getattr(after, each.name)
    ]
