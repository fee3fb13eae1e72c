"""Options about keyboards, pictures and sound.

See system/vl.c: qemu_init(); audio/audio_legacy.c: audio_legacy_help() (7.2).
"""

from __future__ import annotations

import re

from fakeqemu.boot.cmdline.commandline import (
    CommandLine,
    ToConfiguration,
    no_effect,
    option,
    options,
)
from fakeqemu.qapi.errors import NotModelledError

#: degrees by which the picture of a touch screen may be turned
_ROTATIONS = (0, 90, 180, 270)


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


options(
    {
        "k": ToConfiguration("keyboard_layout"),
        "portrait": no_effect,
        "win2k-hack": no_effect,
    }
)
