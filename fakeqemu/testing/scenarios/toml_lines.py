"""Where in a TOML file a thing stands; tomllib tells values and no lines.

Only as much of TOML is read here as places need: headers of tables, keys at the beginning of a
line. What is written in another way is told with the line of what it stands in.
"""

from __future__ import annotations

import re
from pathlib import Path

_HEADER = re.compile(r"\s*(\[\[?)\s*([\w.\"'-]+)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"\s*([\w\"'-]+)\s*=")
_STEPS = re.compile(r"(?:[\w-]+(?:\[\d+\])?: )+")
_QUOTED = re.compile(r"'([^']+)'")
_STEP = re.compile(r"([\w-]+)(?:\[(\d+)\])?")


def located(message: str) -> str:
    """A message that begins with a file and a place in it, with the line behind the file."""
    path, _, rest = message.partition(": ")
    steps = _STEPS.match(rest)
    try:
        text = Path(path).read_text("utf-8") if steps else ""
    except (OSError, UnicodeError):
        return message  # it is no file
    # what is wrong is the last thing quoted before what would be right
    named = _QUOTED.findall(rest.partition("; did you mean")[0]) or [None]
    line = line_of(text, steps[0].removesuffix(": "), named[-1]) if steps else None
    return message if line is None else f"{path}:{line}: {rest}"


def line_of(text: str, place: str, name: str | None = None) -> int | None:
    """The line, from 1, of a place such as "faults[2]", "guest" or "rules[1]: stages[1]".

    With `name` the line below it where that stands as a key or as a value, if there is one.
    """
    lines = text.splitlines()
    first, last = 1, len(lines)
    for step in place.split(": "):
        match = _STEP.fullmatch(step)
        found = match and _find(lines, first, last, match[1], int(match[2] or 1))
        if not found:
            break
        first, last = found
    else:
        return _naming(lines, first, last, name) or first
    return None if (first, last) == (1, len(lines)) else first


def _find(
    lines: list[str], first: int, last: int, key: str, number: int
) -> tuple[int, int] | None:
    """First and last line of table `key`, the `number`th of its array."""
    seen = 0
    for index in range(first, last + 1):
        line = lines[index - 1]
        header, assignment = _HEADER.match(line), _KEY.match(line)
        if header and header[2].split(".")[-1].strip("\"'") == key:
            seen += 1
            if seen == number or header[1] == "[":
                return index, _end(lines, index, last)
        elif assignment and assignment[1].strip("\"'") == key:
            return index, _end(lines, index, last, key=True)
    return None


def _end(lines: list[str], begin: int, last: int, *, key: bool = False) -> int:
    for index in range(begin + 1, last + 1):
        if _HEADER.match(lines[index - 1]) or (key and _KEY.match(lines[index - 1])):
            return index - 1
    return last


def _naming(lines: list[str], first: int, last: int, name: str | None) -> int | None:
    if not name:
        return None
    word = re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])")
    return next((n for n in range(first, last + 1) if word.search(lines[n - 1])), None)
