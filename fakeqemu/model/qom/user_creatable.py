"""User-creatable objects: made by -object and object-add, taken away by object-del.

The schema says which options a type has, the recorded part `objects` what such an object shows;
what a type checks beyond that is in `objectchecks`.

See qom/object_interfaces.c: user_creatable_add_type(), user_creatable_del() and
user_creatable_add_qapi().
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from fakeqemu.model.qom.tree import QomObject, from_recorded
from fakeqemu.model.qom.user_object import UserObject
from fakeqemu.profile.facts import TreeObject
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.chardev.chardevs import Chardevs
    from fakeqemu.model.process import Process
    from fakeqemu.model.qom.tree import Qom
    from fakeqemu.profile import Profile

#: what the recorded object was called
_PROBE = "/objects/probe"


class Objects:
    """The user-creatable objects of one machine."""

    def __init__(self, process: Process, qom: Qom, chardevs: Chardevs) -> None:
        self.process = process
        self.qom = qom
        self.chardevs = chardevs
        #: type -> what its owner checks and does when an object of that type is complete; may
        #: raise QapiError. Owners of what an object is for add theirs here and below
        self.completers: dict[str, Callable[[UserObject], None]] = {}
        #: type -> what else its owner does with the options an object is made with, and with the
        #: monitor that they come from; may raise QapiError
        self.option_setters: dict[
            str, Callable[[UserObject, str, dict[str, Any], Any], None]
        ] = {}
        #: type -> tells whether the object of that type and of a name is in use
        self.users: dict[str, Callable[[str], bool]] = {}
        #: type -> makes its object of id and checked options; of types that others implement.
        #: Raises QapiError.
        self.makers: dict[str, Callable[[str, dict[str, Any]], UserObject]] = {}
        #: makes the monitor of a monitor object; set by whoever runs the process.
        #: Called with the chardev's id, `human=` and what options the object has; gives what has
        #: `detach()` and, for QMP, the callbacks `on_client_gone`.
        self.make_monitor: Callable[..., Any] | None = None
        #: the same for the qtest server: chardev and log (None: standard error)
        self.make_qtest: Callable[[str, str | None], Any] | None = None
        #: puts gdb's server on a chardev, or takes it off the one it is on (None)
        self.serve_gdb: Callable[[str | None], None] | None = None

    def all(self) -> list[QomObject]:
        """Every object, oldest first."""
        there = self.qom.at("/objects")
        return [] if there is None else list(there.children.values())

    def get(self, id: str) -> QomObject | None:
        """The object called `id`."""
        there = self.qom.at("/objects")
        return None if there is None else there.child(id)

    def add(self, options: Mapping[str, Any], monitor: Any = None) -> UserObject:
        """Make an object from checked ObjectOptions, given by `monitor`. Raises QapiError."""
        from fakeqemu.model.qom import user_creatable_checks as objectchecks
        from fakeqemu.qapi.readers.qemu_opts import check_identifier

        type, id = options["qom-type"], options["id"]
        check_identifier(id)
        given = {k: v for k, v in options.items() if k not in ("qom-type", "id")}
        if type in self.makers:
            obj = self.makers[type](id, given)
            self.insert(id, obj)
            self.process.journal.note("object", id, type=type)
            return obj
        facts = self.about(type)
        obj = self._make(type, facts, id)
        obj.options = dict(given)
        objectchecks.set_all(self, obj, given)
        if type in self.option_setters:
            self.option_setters[type](obj, id, given, monitor)
        self.insert(id, obj)
        try:
            objectchecks.complete(self, obj)
        except BaseException:
            obj.remove()
            raise
        if type == "iothread":
            self._start_thread(obj)
        self.process.journal.note("object", id, type=type)
        return obj

    def _start_thread(self, obj: UserObject) -> None:
        """Have an iothread's thread from now on, or once the process is the one that stays."""
        if not self.process.main_loop_running:
            self.process.on_main_loop.append(lambda: self._start_thread(obj))
        elif self.get(obj.name) is obj:
            self.process.host.thread_id(f"IO {obj.name}", 0)

    def insert(self, id: str, obj: QomObject) -> None:
        """Put a finished object where users' objects are. Raises QapiError if `id` is taken."""
        container = self.qom.container("/objects")
        if container.has(id):
            raise QapiError(
                f"attempt to add duplicate property '{id}' to object (type 'container')"
            )
        container.add_child(id, obj)

    def about(self, type: str) -> dict[str, Any]:
        """The recorded facts of an object type. Raises QapiError for one that is not built in."""
        try:
            facts: dict[str, Any] = self.process.profile.part("objects").get(type)
        except KeyError:
            raise NotModelledError(f"object {type}") from None
        if type not in self.process.profile.qom_types:
            raise QapiError(f"invalid object type: {type}")
        return facts

    def _make(self, type: str, facts: dict[str, Any], id: str) -> UserObject:
        from fakeqemu.model.qom import user_creatable_checks as objectchecks

        change = partial(objectchecks.set_property, self.process)

        def rename(text: str) -> str:
            if text.startswith(_PROBE):
                return f"/objects/{id}" + text[len(_PROBE) :]
            return id + text[5:] if text == "probe" or text.startswith("probe[") else text

        def make(kind: str) -> QomObject:
            return UserObject(kind, change) if kind == type else QomObject(kind)

        if facts["tree"] is not None:
            obj = from_recorded(TreeObject.of(facts["tree"]), rename=rename, make=make)
            assert isinstance(obj, UserObject)
            # what was recorded only because the recording had to give it says nothing here
            for name in facts["options"]:
                obj.values.pop(name, None)
        else:
            obj = UserObject(type, change)
            for entry in self._properties(type):
                obj.own_shapes()[entry["name"]] = entry["type"]
                if "default-value" in entry:
                    obj.values[entry["name"]] = entry["default-value"]
        return obj

    def _properties(self, type: str) -> list[dict[str, Any]]:
        try:
            return self.process.profile.qom_properties(type)
        except KeyError:
            raise NotModelledError(f"object {type}") from None

    def add_monitor(self, id: str | None, *, chardev: str, human: bool, pretty: bool) -> None:
        """A monitor that the command line asked for shows as object where monitors are objects."""
        type = "monitor-hmp" if human else "monitor-qmp"
        if type not in self.process.profile.qom_types:
            return
        if id is None:
            number = 0
            while self.get(f"compat_monitor{number}") is not None:
                number += 1
            id = f"compat_monitor{number}"
        obj = self._make(type, self.about(type), id)
        obj.options = {"chardev": chardev}
        obj.values.update(chardev=chardev, **({} if human else {"pretty": pretty}))
        self.insert(id, obj)

    def delete(self, id: str, monitor: Any = None) -> None:
        """What object-del does. Raises QapiError."""
        obj = self.qom.container("/objects").child(id)
        if obj is None:
            raise QapiError(f"object '{id}' not found")
        _check_deletable(self, obj, monitor)
        self.drop(obj)

    def drop(self, obj: QomObject) -> None:
        """Take an object away, asked or not."""
        if isinstance(obj, UserObject):
            for call in obj.on_delete:
                call()
        if obj.type == "iothread":
            self.process.host.end_thread(f"IO {obj.name}")
        obj.remove()

    def check_tls_credentials(self, id: str, endpoint: str) -> None:
        """Refuse object `id` unless it is credentials for a `client` or `server` endpoint.

        Raises QapiError. See crypto/tlscreds.c: qcrypto_tls_creds_check_endpoint().
        """
        credentials = self.get(id)
        if credentials is None:
            raise QapiError(f"No TLS credentials with id '{id}'")
        if not self.process.profile.is_a(credentials.type, "tls-creds"):
            raise QapiError(f"Object with id '{id}' is not TLS credentials")
        if credentials.get("endpoint") != endpoint:
            raise QapiError(f"Expected TLS credentials for a {endpoint} endpoint")

    def filters_of(self, netdev: str) -> list[QomObject]:
        """The filters on a network backend, in the order in which packets meet them."""
        found: list[QomObject] = []
        for obj in self.of_type("netfilter"):
            if not isinstance(obj, UserObject) or obj.options.get("netdev") != netdev:
                continue
            place = obj.options.get("position", "tail")
            index = 0 if place == "head" else len(found)
            if place.startswith("id="):
                names = [each.name for each in found]
                index = names.index(place[3:]) if place[3:] in names else len(names)
                index += obj.options.get("insert", "behind") == "behind"
            found.insert(index, obj)
        return found

    def of_type(self, type: str) -> list[QomObject]:
        """The objects of a type or of types below it, oldest first."""
        return [obj for obj in self.all() if self.process.profile.is_a(obj.type, type)]


def by_type(profile: Profile, type: str, table: Mapping[str, Any]) -> Any:
    """The entry for `type` or its nearest ancestor; None if there is none."""
    here: str | None = type
    while here is not None:
        if here in table:
            return table[here]
        known = profile.qom_types.get(here)
        here = known.parent if known is not None else None
    return None


def _check_deletable(objects: Objects, obj: QomObject, monitor: Any) -> None:
    """Raise QapiError if object-del of `obj` is refused."""
    if obj.type.startswith("monitor-"):
        _may_delete_monitor(obj, monitor)
        return
    permanent = obj.type in ("can-bus", "main-loop")
    uses = by_type(objects.process.profile, obj.type, objects.users)
    if permanent or (uses is not None and uses(obj.name)):
        raise QapiError(_in_use(objects, obj))


def _in_use(objects: Objects, obj: QomObject) -> str:
    text = "object '{id}' is in use, can not be deleted"
    if objects.process.profile.traits.object_in_use_names_kind:
        text = by_type(objects.process.profile, obj.type, _IN_USE) or text
    return text.format(id=obj.name)


#: words of versions that say what kind of object it is
_IN_USE = {
    "memory-backend": "Cannot delete host memory backend '{id}' which is mapped",
    "throttle-group": "Cannot delete throttle group '{id}' with active references",
    "main-loop": "Deleting main loop '{id}' is not supported",
    "can-bus": "Deleting CAN bus device '{id}' is not supported",
}


def _may_delete_monitor(obj: QomObject, monitor: Any) -> None:
    chardev = getattr(monitor, "chardev", None)
    if chardev is not None and chardev.id == obj.values.get("chardev"):
        raise QapiError("Cannot delete the current QMP monitor")
