"""Files of the host that QEMU reads by name: where they are looked for, and what is wrong.

Names that QEMU's own package brings (`efi-virtio.rom`, `bios-256k.bin`) are there whether or not
this host has them, as they were where the profile was recorded.

See system/datadir.c: qemu_find_file().
"""

from __future__ import annotations

import errno
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fakeqemu.configuration import Configuration
    from fakeqemu.model.host import Host
    from fakeqemu.profile import Profile

#: where QEMU's packages put firmware, beside what -L names
DATA_DIRECTORIES = ("/usr/share/qemu", "/usr/share/seabios", "/usr/lib/ipxe/qemu")


def find_file(host: Host, directories: Iterable[str], name: str) -> str | None:
    """Where the firmware file `name` is; None if it is nowhere. `directories`: those of -L.

    See system/datadir.c: qemu_find_file(): as it stands, then in the directories of -L and QEMU's.
    """
    if host.file_error(name) is None:
        return name
    folders = (*directories, *DATA_DIRECTORIES)
    places = (f"{folder}/{name}" for folder in folders)
    return next((place for place in places if host.file_error(place) is None), None)


def keymap_error(host: Host, configuration: Configuration, profile: Profile) -> str | None:
    """Why the keyboard layout that -k names cannot be read.

    Those of QEMU's own package are always there. See ui/keymaps.c: parse_keyboard_layout().
    """
    name = configuration.keyboard_layout
    if name is None or name in profile.overlay_data("keymaps")["names"]:
        return None
    folders = (*configuration.data_directories, DATA_DIRECTORIES[0])
    places = (name, *(f"{folder}/keymaps/{name}" for folder in folders))
    if any(host.file_error(place) is None for place in places):
        return None
    if profile.traits.keymap_file_searched:
        return f"could not find keymap file for language '{name}'"
    return f"could not read keymap file: '{name}'"


def file_size(host: Host, path: str) -> int | None:
    """Bytes in a file; None if it cannot be opened. See hw/core/loader.c: get_image_size()."""
    try:
        file = host.files.open(path, writable=False)
    except OSError:
        return None
    try:
        return file.size()
    except OSError:
        return None
    finally:
        file.close()


def is_file(host: Host, path: str) -> bool:
    """Whether there is a file (no folder, no device) at `path`."""
    try:
        return host.files.kind(path) == "file"
    except OSError:
        return False


def glib_error(path: str, error: OSError) -> str:
    """A failure to read a file in the words of GLib's g_file_get_contents()."""
    if error.errno == errno.EISDIR:
        return f"Error reading file “{path}”: {error.strerror}"
    return f"Failed to open file “{path}”: {error.strerror}"


@lru_cache(maxsize=8)
def packaged_roms(profile: Profile) -> frozenset[str]:
    """The option ROMs that devices of a version have by themselves."""
    devices = profile.part("devices")
    found = set()
    for driver in devices:
        tree = devices.get(driver).get("tree")
        name = tree["values"].get("romfile") if tree is not None else None
        if isinstance(name, str) and name:
            found.add(name)
    return frozenset(found)
