"""A file that looks like an emulator: for tools that take a path and empty the environment.

It names the interpreter and the package by absolute path, so it needs no PATH, no activated
environment and no PYTHONPATH, and runs as any user who may read them.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import fakeqemu
from fakeqemu.profile import Profile
from fakeqemu.profile.options import options_for

#: -I keeps the caller's settings and directory out; -S saves the look for packages, none of
#: which an emulator needs
_FLAGS = "-IS"
_CODE = "import sys; sys.path.insert(0, {root!r}); from fakeqemu.cli import main; sys.exit(main())"
#: an interpreter does not start on a directory, which a QEMU never gets anything from
_INPUT = "if [ -d /dev/fd/0 ]; then exec </dev/null; fi"


def write_launcher(
    directory: str, name: str, profile: Profile | str, options: Sequence[str] = ()
) -> Path:
    """Write an executable DIRECTORY/NAME that is `profile`; its path. Raises OSError."""
    folder = Path(directory).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    root = str(Path(fakeqemu.__file__).parent.parent)
    command = [
        str(Path(sys.executable).absolute()),
        _FLAGS,
        "-c",
        _CODE.format(root=root),
        "run",
        *options_for(Profile.load(profile)),
        "--program",
        name,
        *options,
        "--",
    ]
    path.write_text(f'#!/bin/sh\n{_INPUT}\nexec {shlex.join(command)} "$@"\n', "utf-8")
    path.chmod(0o755)
    return path
