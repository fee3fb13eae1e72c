"""Objects that stand for something of the host's: what is said where the host has none.

Where it has one there is no model of what that does: whoever makes the object is told so.

See ui/input-linux.c: input_linux_complete(); scsi/pr-manager-helper.c:
pr_manager_helper_initialize().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.qom.user_creatable import Objects
    from fakeqemu.model.qom.user_object import UserObject

_EVDEV = "/dev/input/"


def complete(objects: Objects, obj: UserObject) -> None:
    """Refuse the object, for what the host lacks if it does. Raises QapiError."""
    if obj.type == "input-linux":
        _open_evdev(objects, obj.options["evdev"])
    else:
        # one that listens is greeted, and would be asked for reservations
        stream, _ = objects.process.host.connect_to_client(
            {"type": "unix", "path": obj.options["path"]}
        )
        stream.close()
    raise NotModelledError(f"object {obj.type}")


def _open_evdev(objects: Objects, path: str) -> None:
    trouble = objects.process.host.open_error(path)
    if trouble is not None:
        raise QapiError(f"Could not open '{path}': {trouble}")
    if not path.startswith(_EVDEV):
        raise QapiError(f"{path}: is not an evdev device")
