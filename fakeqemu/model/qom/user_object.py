"""An object that users make, and what refuses its change.

See qom/object_interfaces.c: user_creatable_add_type().
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fakeqemu.model.qom.tree import QomObject

if TYPE_CHECKING:
    from fakeqemu.qapi.schema import Schema

#: called with a finished object, a property's name, its new value. Raises QapiError
Change = Callable[["UserObject", str, Any, "Schema"], None]


class UserObject(QomObject):
    """One user-creatable object."""

    def __init__(self, type: str, change: Change) -> None:
        """`change`: sets a property of the finished object, if its type lets it."""
        super().__init__(type)
        #: what it was made with
        self.options: dict[str, Any] = {}
        #: called when it goes
        self.on_delete: list[Callable[[], None]] = []
        #: what a secret keeps; None for other objects
        self.secret: bytes | None = None
        self._change = change

    def set_otherwise(self, name: str, value: Any, schema: Schema) -> None:
        """Whether and why a property of a finished object cannot be set: its type knows."""
        self._change(self, name, value, schema)
