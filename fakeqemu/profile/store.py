"""Where the recorded data of a version lies, and its files.

A profile is a folder of parts, `PART.json.gz` each, or `PART.lines.gz` where it is packed; which
parts there are is said in `docs/profiles.md`. In a source tree the folders stand in `schemas/`
beside the package, in an installed wheel inside it as `_schemas`. A folder with `overlay.json` has
no parts of its own: it names a base, proposals and rules that change the base's parts (see
`overlay`); what a proposal changes is in `proposals/NAME.json`.

Writing is here too, so that there is one place that knows the format: the same value always
gives the same bytes.
"""

from __future__ import annotations

import json
import os
import zlib
from functools import cache
from os import PathLike
from typing import TYPE_CHECKING, Any

from fakeqemu import spare_fd
from fakeqemu.profile.packing import Packed, as_lines, pack

if TYPE_CHECKING:
    from pathlib import Path

#: parts stored as one packed value, of which little is read; all others are plain JSON
PACKED = frozenset(
    {"machines", "properties", "expansions", "machine-data", "trees", "devices", "objects"}
)

OVERLAY = "overlay.json"

#: of zlib's window bits: with gzip's header
_GZIP = 31


def schemas_dir() -> Path:
    """The folder that holds the profiles; FileNotFoundError says where it was looked for."""
    from pathlib import Path

    return Path(schemas_path())


@cache
def schemas_path() -> str:
    """The same as text: pathlib takes longer to import than a start reads its profile."""
    package = os.path.realpath(os.path.join(__file__, os.pardir, os.pardir))
    places = (f"{package}/_schemas", f"{os.path.dirname(package)}/schemas")
    for place in places:
        if os.path.isdir(place):
            return place
    raise FileNotFoundError(f"no profiles: looked in {places[0]} and {places[1]}")


def profile_names() -> list[str]:
    """The names of the profiles that come with the package, oldest version first."""

    def order(name: str) -> tuple[int, list[int], str]:
        numbers = name.split(".")
        if all(number.isdigit() for number in numbers):
            return 0, [int(number) for number in numbers], name
        return 1, [], name

    folder = schemas_path()
    return sorted((n for n in os.listdir(folder) if is_profile(f"{folder}/{n}")), key=order)


def is_profile(folder: str) -> bool:
    """Whether `folder` holds a recorded profile or an overlay."""
    return is_overlay(folder) or os.path.isfile(f"{folder}/version.json.gz")


def is_overlay(folder: str) -> bool:
    """Whether `folder` has no parts of its own, but rules for those of another."""
    return os.path.isfile(f"{folder}/{OVERLAY}")


def read_proposal(name: str) -> dict[str, Any]:
    """What proposal `name` lays over a profile: `rules`, none where it has no file."""
    return _read_json(f"{schemas_path()}/proposals/{name}.json", {"rules": []})


@cache
def read_overlay_data(name: str) -> dict[str, Any]:
    """Hand-made or scripted data `schemas/overlays/NAME.json`; {} where there is none."""
    return _read_json(f"{schemas_path()}/overlays/{name}.json", {})


def _read_json(file: str, missing: dict[str, Any]) -> dict[str, Any]:
    try:
        described: dict[str, Any] = json.loads(_content(file))
    except FileNotFoundError:
        return missing
    return described


def _content(path: str) -> bytes:
    def read() -> bytes:
        with open(path, "rb") as file:
            return file.read()

    return spare_fd.reading(read)


def part_path(folder: str | PathLike[str], part: str) -> str:
    """The file of `part` in a profile's folder."""
    return f"{os.fspath(folder)}/{part}.{'lines' if part in PACKED else 'json'}.gz"


def read_part(folder: str | PathLike[str], part: str) -> Any:
    """The value of one part: JSON, or `Packed` for the parts named in PACKED."""
    packed = _content(part_path(folder, part))
    # as gzip does it, which takes longer to import than to decompress
    text = zlib.decompress(packed, wbits=_GZIP).decode("ascii")
    return Packed.of_lines(text) if part in PACKED else json.loads(text)


def write_part(folder: str | PathLike[str], part: str, value: Any) -> None:
    """Write one part, byte for byte the same for the same value."""
    import gzip

    if part in PACKED:
        text = as_lines(pack(value))
    else:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    os.makedirs(folder, exist_ok=True)
    with open(part_path(folder, part), "wb") as file:
        file.write(gzip.compress(text.encode("ascii"), 9, mtime=0))
