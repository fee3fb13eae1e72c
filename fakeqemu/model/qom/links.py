"""Links: properties whose value is the path of another object.

See qom/object.c: object_resolve_link() and object_resolve_path_type().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.model.qom.tree import resolve_from
from fakeqemu.qapi.errors import DeviceNotFoundError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.qom.tree import Qom, QomObject
    from fakeqemu.profile import Profile


def resolve_link(qom: Qom, profile: Profile, name: str, path: str, kind: str) -> str:
    """The whole path of the object of type `kind` that `path` means; "" for none.

    `name` is the property's. Raises QapiError.
    """
    if not path:
        return ""
    found, ambiguous = _resolve(qom, profile, path, kind)
    if ambiguous:
        raise QapiError(f"Path '{path}' does not uniquely identify an object")
    if found is None:
        other, _ = resolve_from(qom.root, path)
        if other is not None:
            raise QapiError(f"Invalid parameter type for '{name}', expected: {kind}")
        raise DeviceNotFoundError(f"Device '{path}' not found")
    return found.path


def _resolve(qom: Qom, profile: Profile, path: str, kind: str) -> tuple[QomObject | None, bool]:
    """The object of type `kind` that `path` means."""
    if path.startswith("/"):
        found = qom.at(path)
        right = found is not None and profile.is_a(found.type, kind)
        return (found if right else None), False
    parts = path.split("/")
    matches = [
        obj
        for obj in qom.root.walk()
        if obj.name == parts[-1] and obj.path.endswith("/" + path) and profile.is_a(obj.type, kind)
    ]
    return (matches[0] if len(matches) == 1 else None), len(matches) > 1
