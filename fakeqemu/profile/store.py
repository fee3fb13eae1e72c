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
import zlib
from functools import cache
from pathlib import Path
from typing import Any

from fakeqemu import spare_fd
from fakeqemu.profile.packing import Packed, as_lines, pack

#: parts stored as one packed value, of which little is read; all others are plain JSON
PACKED = frozenset(
    {"machines", "properties", "expansions", "machine-data", "trees", "devices", "objects"}
)

OVERLAY = "overlay.json"

#: of zlib's window bits: with gzip's header
_GZIP = 31


def schemas_dir() -> Path:
    """The folder that holds the profiles; FileNotFoundError says where it was looked for."""
    package = Path(__file__).resolve().parent.parent
    places = (package / "_schemas", package.parent / "schemas")
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(f"no profiles: looked in {places[0]} and {places[1]}")


def profile_names() -> list[str]:
    """The names of the profiles that come with the package, oldest version first."""

    def order(name: str) -> tuple[int, list[int], str]:
        numbers = name.split(".")
        if all(number.isdigit() for number in numbers):
            return 0, [int(number) for number in numbers], name
        return 1, [], name

    return sorted((p.name for p in schemas_dir().iterdir() if is_profile(p)), key=order)


def is_profile(folder: Path) -> bool:
    """Whether `folder` holds a recorded profile or an overlay."""
    return (folder / OVERLAY).is_file() or (folder / "version.json.gz").is_file()


def read_proposal(name: str) -> dict[str, Any]:
    """What proposal `name` lays over a profile: `rules`, none where it has no file."""
    return _read_json(schemas_dir() / "proposals" / f"{name}.json", {"rules": []})


def read_overlay_data(name: str) -> dict[str, Any]:
    """Hand-made or scripted data `schemas/overlays/NAME.json`; {} where there is none."""
    return _read_overlay_data(schemas_dir(), name)


@cache
def _read_overlay_data(folder: Path, name: str) -> dict[str, Any]:
    return _read_json(folder / "overlays" / f"{name}.json", {})


def _read_json(file: Path, missing: dict[str, Any]) -> dict[str, Any]:
    if not file.is_file():
        return missing
    described: dict[str, Any] = json.loads(spare_fd.reading(file.read_bytes))
    return described


def part_path(folder: Path, part: str) -> Path:
    """The file of `part` in a profile's folder."""
    return folder / f"{part}.{'lines' if part in PACKED else 'json'}.gz"


def read_part(folder: Path, part: str) -> Any:
    """The value of one part: JSON, or `Packed` for the parts named in PACKED."""
    packed = spare_fd.reading(part_path(folder, part).read_bytes)
    # as gzip does it, which takes longer to import than to decompress
    text = zlib.decompress(packed, wbits=_GZIP).decode("ascii")
    return Packed.of_lines(text) if part in PACKED else json.loads(text)


def write_part(folder: Path, part: str, value: Any) -> None:
    """Write one part, byte for byte the same for the same value."""
    import gzip

    if part in PACKED:
        text = as_lines(pack(value))
    else:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    folder.mkdir(parents=True, exist_ok=True)
    part_path(folder, part).write_bytes(gzip.compress(text.encode("ascii"), 9, mtime=0))
