"""-readconfig: option groups from a file.

    [chardev "c"]
      backend = "null"

A group with an id or without, keys with quoted values. What a group means is the same as for
the option of that group.

See util/qemu-config.c: qemu_read_config_file(); system/vl.c: qemu_parse_config_group().
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

from fakeqemu.boot.cmdline.commandline import CommandLine
from fakeqemu.qapi.errors import FilePlace, QapiError
from fakeqemu.qapi.readers.keyval import check_keyval, merge

#: groups that are no lists of option strings inside: -set cannot change them
NOT_LISTS = ("object", "audiodev", "machine", "smp-opts", "boot-opts")

_GROUP = re.compile(r'\[([^\]\s"]{1,63})(?: "([^"]{1,63})")?\]')
_KEY = re.compile(r'\s*(\S{1,63}) = "([^"]*)"')

#: groups that are machine properties -> the property
_PROPERTIES = {"smp-opts": "smp", "boot-opts": "boot"}


def read_config_file(line: CommandLine, path: str) -> None:
    """Take in all groups of the file. Raises StartupError."""
    try:
        lines = line.files.read(path).splitlines()
    except OSError as exc:
        line.fail(f"Could not open '{path}': {exc.strerror}")
    group: str | None = None
    values: dict[str, str] = {}
    number = 0
    for number, text in enumerate(lines, 1):
        here = FilePlace(f"{path}:{number}")
        if not text or text.startswith("#"):
            continue
        header = _GROUP.match(text)
        if header:
            if group is not None:
                _take(line, group, values, here)
            group = header[1]
            values = {} if header[2] is None else {"id": header[2]}
            continue
        key = _KEY.match(text)
        if key is None:
            _fail(line, "parse error", here)
        if group is None:
            _fail(line, "no group defined", here)
        values[key[1]] = key[2]
    if group is not None:
        _take(line, group, values, f"{path}:{number}")


def _fail(line: CommandLine, text: str, here: str) -> NoReturn:
    line.messages.fail(text, here)


def _take(line: CommandLine, name: str, values: dict[str, str], here: str) -> None:
    try:
        if name in NOT_LISTS:
            _take_tree(line, name, dict(values), here)
        elif name not in line.groups:
            raise QapiError(f"There is no option group '{name}'")
        else:
            group = line.groups.group(name)
            entry = line.groups.create(group, values.get("id"), name, here)
            for key, value in values.items():
                if key != "id":
                    line.groups.set(group, entry, key, value)
    except QapiError as exc:
        line.messages.fail_with(exc, here)


def _take_tree(line: CommandLine, name: str, values: dict[str, Any], here: str) -> None:
    configuration = line.configuration
    if name in _PROPERTIES:
        merge(configuration.machine_options, {_PROPERTIES[name]: values})
    elif name == "machine":
        merge(configuration.machine_options, values)
    elif name == "object":
        kind = line.profile.schema.commands["object-add"].arg_type
        entry = line.record("", check_keyval(kind, values, line.profile.traits))
        entry.option, entry.location = name, here
        configuration.objects.append(entry)
    else:
        entry = line.record("", values)
        entry.option, entry.location = name, here
        configuration.audiodevs.append(entry)
