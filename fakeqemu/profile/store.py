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
from fakeqemu.qapi.errors import NotModelledError

if TYPE_CHECKING:
    from pathlib import Path

#: parts stored as one packed value, of which little is read; all others are plain JSON
PACKED = frozenset(
    {
        *("machines", "machine-data", "trees", "variants"),
        *("properties", "expansions", "devices", "objects"),
    }
)

OVERLAY = "overlay.json"
#: the part that says which others could not be recorded: part -> reason
MISSING = "missing"
#: the part with what was carried over from versions that are described; see `inferred`
INFERRED = "inferred"
#: the part of a profile without a program: which part came from where; `shared`: which ones are
#: those of the first of its `bases`
COMPOSED = "composed"

#: the CPU model that part `expansions` has the refusal of, as that of any unknown one
UNKNOWN_MODEL = "no-such-model"

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


def profile_names(*, composed: bool = True) -> list[str]:
    """The names of the profiles that come with the package, oldest version first.

    Without `composed` only those that a real program is behind.
    """

    def order(name: str) -> tuple[int, list[int], str]:
        numbers = name.split(".")
        if all(number.isdigit() for number in numbers):
            return 0, [int(number) for number in numbers], name
        return 1, [], name

    folder = schemas_path()
    names = (name for name in os.listdir(folder) if is_profile(f"{folder}/{name}"))
    if not composed:
        names = (name for name in names if how_composed(f"{folder}/{name}") is None)
    return sorted(names, key=order)


def target_profile_names() -> list[str]:
    """Those of other targets than x86_64: `VERSION/TARGET`, in the order of `profile_names`."""
    folder = schemas_path()
    return [
        f"{version}/{target}"
        for version in profile_names()
        for target in sorted(os.listdir(f"{folder}/{version}"))
        if is_profile(f"{folder}/{version}/{target}")
    ]


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


def overlay_data(name: str, version: str, folder: str) -> dict[str, Any] | None:
    """The part of `schemas/overlays/NAME.json` that is about `version`; None if there is none.

    Of a version that is not described there, what the recording in `folder` has inferred.
    """
    by_version = read_overlay_data(name)
    if version in by_version:
        described: dict[str, Any] = by_version[version]
        return described
    try:
        inferred: dict[str, Any] | None = read_part(folder, INFERRED).get(name)
    except MissingPartError:
        return None
    return inferred


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


class MissingPartError(NotModelledError):
    """A profile lacks a part that is asked for."""

    def __init__(self, folder: str, part: str, reason: str) -> None:
        super().__init__(part)
        self.desc += f": it is not in the profile {folder} ({reason})"


def read_part(folder: str | PathLike[str], part: str) -> Any:
    """The value of one part: JSON, or `Packed` for the parts named in PACKED.

    Raises MissingPartError, with the reason if the recording left one.
    """
    try:
        packed = _content(part_path(folder, part))
    except FileNotFoundError:
        how = how_composed(folder) if part != COMPOSED else None
        if how is not None and part in how["shared"]:
            return read_part(f"{schemas_path()}/{how['bases'][0]}", part)
        reason = missing_parts(folder).get(part, "it was not recorded")
        raise MissingPartError(os.fspath(folder), part, reason) from None
    # as gzip does it, which takes longer to import than to decompress
    text = zlib.decompress(packed, wbits=_GZIP).decode("ascii")
    return Packed.of_lines(text) if part in PACKED else json.loads(text)


def missing_parts(folder: str | PathLike[str]) -> dict[str, str]:
    """Parts that could not be recorded, each with the reason."""
    try:
        text = zlib.decompress(_content(part_path(folder, MISSING)), wbits=_GZIP)
    except FileNotFoundError:
        return {}
    found: dict[str, str] = json.loads(text)
    return found


def how_composed(folder: str | PathLike[str]) -> dict[str, Any] | None:
    """How a profile was composed: `file`, `bases`, `parts`, `shared`; None for a recorded one."""
    try:
        found: dict[str, Any] = read_part(folder, COMPOSED)
    except MissingPartError:
        return None
    return found


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
