"""Files that testers write: read whole, up to a size, with errors that name the file."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

#: bytes that a file may have; a device may have no end
_MOST = 256 << 20
_TOO_DEEP = "nested too deeply"


def read_text(path: str | Path) -> str:
    """A file's text. Raises ValueError with the path and what is wrong."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MOST + 1)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if len(data) > _MOST:
        raise ValueError(f"{path}: more than {_MOST} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}:{line}: not UTF-8: {error.reason}") from None


def read_toml(path: str | Path) -> dict[str, Any]:
    """A TOML file's values. Raises ValueError with the path and what is wrong."""
    text = read_text(path)
    try:
        return tomllib.loads(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    except RecursionError:
        raise ValueError(f"{path}: {_TOO_DEEP}") from None


def load_json(text: str | bytes | bytearray) -> Any:
    """What JSON text says. Raises ValueError, for text that is nested too deeply, too."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
