"""Options about keyboards, pictures and sound.

See system/vl.c: qemu_init(); audio/audio.c: audio_parse_option(); audio/audio_legacy.c:
audio_legacy_help() (7.2).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fakeqemu.boot.cmdline.commandline import (
    CommandLine,
    ToConfiguration,
    no_effect,
    option,
    options,
)
from fakeqemu.boot.cmdline.schema_values import HELP, typed_argument
from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import NotModelledError, QapiError
from fakeqemu.qapi.readers.keyval import check_keyval
from fakeqemu.qapi.schema import ArrayType, EnumType, Member, ObjectType, Type

#: degrees by which the picture of a touch screen may be turned
_ROTATIONS = (0, 90, 180, 270)
#: what can only be said of sound whose format is fixed
_FIXED_SETTINGS = ("frequency", "channels", "format")


@option("audio-help")
def _audio_help(line: CommandLine, _text: str) -> None:
    if line.files.has_audio_environment():
        line.fail(NotModelledError("environment variables of audio drivers").desc)
    line.exit(line.profile.help("-audio-help"))


@option("rotate", judged=True)
def _rotate(line: CommandLine, text: str) -> None:
    # as C's strtol(): what follows the number is not looked at
    number = re.match(r"\s*[+-]?[0-9]+", text)
    if number is not None and int(number[0]) not in _ROTATIONS:
        line.fail("only 90, 180, 270 deg rotation is available")


def _audiodev_type(line: CommandLine) -> Type:
    """The type of -audiodev.

    Where the schema does not show it that of the next version, with the version's own drivers.
    """
    shown = (line.profile, *(Profile.load(name) for name in Profile.names(composed=False)))
    for profile in shown:
        found = profile.schema.commands.get("query-audiodevs")
        if found is not None and isinstance(found.ret_type, ArrayType):
            kind = found.ret_type.element
            drivers = line.profile.overlay_data("audio-drivers").get("drivers")
            if drivers is not None and isinstance(kind, ObjectType):
                kind = _with_drivers(kind, tuple(drivers))
            return kind
    raise NotModelledError("the type of -audiodev")


def _with_drivers(kind: ObjectType, drivers: tuple[str, ...]) -> ObjectType:
    """`kind` of other drivers; of those that it does not have only what all have is known."""
    names = EnumType("AudiodevDriver", drivers, {})
    members = tuple(
        Member(each.name, each.optional, each.feature, lambda: names)
        if each.name == kind.tag else each
        for each in kind.members
    )
    variants = {name: kind.variants.get(name, kind.variants["none"]) for name in drivers}
    return ObjectType(kind.name, members, kind.tag, variants, kind.feature)


def _check_direction(given: Mapping[str, Any]) -> None:
    """Raise QapiError for settings of `in` or `out` that contradict each other.

    See audio/audio.c: audio_validate_per_direction_opts().
    """
    mixing = given.get("mixing-engine", True)
    fixed = given.get("fixed-settings", mixing)
    if not fixed and any(key in given for key in _FIXED_SETTINGS):
        raise QapiError(
            "You can't use frequency, channels or format with fixed-settings=off"
        )
    if fixed and not mixing:
        raise QapiError("You can't use fixed-settings without mixeng")


@option("audiodev")
def _audiodev(line: CommandLine, text: str) -> None:
    line.configuration.defaults.audio = False
    if not text.startswith("{") and line.keyval(text, "driver")[1]:
        line.exit(line.profile.help("-audio help"))
    _add_audiodev(line, text, {})


def _add_audiodev(line: CommandLine, text: str, implied: dict[str, Any]) -> None:
    try:
        kind = _audiodev_type(line)
        if implied:
            values = check_keyval(kind, implied, line.profile.traits)
        else:
            values = typed_argument(text, kind, "driver", line.profile, "-audiodev")
        for direction in ("in", "out"):
            _check_direction(values.get(direction, {}))
    except QapiError as exc:
        line.fail_with(exc)
    line.configuration.audiodevs.append(line.record(text, values, json=True))


@option("audio")
def _audio(line: CommandLine, text: str) -> None:
    line.configuration.defaults.audio = False
    values, help_wanted = line.keyval(text, "driver")
    if help_wanted or values.get("driver") in HELP:
        line.exit(line.profile.help("-audio help"))
    model = values.pop("model", None)
    if model is None and line.profile.traits.audio_needs_model:
        line.fail("Parameter 'model' is missing")
    if model is not None:
        line.fail(NotModelledError("-audio model=").desc)
    _add_audiodev(line, text, {"id": "audiodev0", **values})


options(
    {
        "k": ToConfiguration("keyboard_layout"),
        "portrait": no_effect,
        "win2k-hack": no_effect,
    }
)
