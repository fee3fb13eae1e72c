"""`-object iommufd`: a user's descriptor of the host's IOMMU, which CPR hands to the next process.

A descriptor that is given is saved under the object's id when the object is complete; in a process
that takes over, the saved one counts, and the number that is given has no meaning. No device uses
it here: passed-through devices are refused.

See backends/iommufd.c: iommufd_backend_set_fd() and iommufd_backend_complete() (11.1); up to 10.0
nothing was saved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.net.descriptors import BackendDescriptors
    from fakeqemu.model.process import Process
    from fakeqemu.model.qom.user_creatable import Objects
    from fakeqemu.model.qom.user_object import UserObject

_TYPE = "iommufd"
_DEVICE = "/dev/iommu"


class IommuBackends:
    """The objects of this type of one machine."""

    def __init__(
        self, process: Process, objects: Objects, descriptors: BackendDescriptors
    ) -> None:
        self._process = process
        self._objects = objects
        self.descriptors = descriptors
        #: id -> descriptor, of those that were given one; None: no saved one was found
        self._fds: dict[str, int | None] = {}
        objects.option_setters[_TYPE] = self._set_fd
        objects.completers[_TYPE] = self._complete

    def descriptor(self, id: str) -> int | None:
        """The descriptor of the object `id`; None if it has none."""
        return self._fds.get(id)

    def _set_fd(self, obj: UserObject, id: str, options: dict[str, Any], monitor: Any) -> None:
        obj.on_delete.append(lambda: self._forget(id))
        text = options.get("fd")
        if text is None:
            return
        try:
            self._fds[id] = self.descriptors.find(monitor, text).fd
        except QapiError as error:
            raise QapiError(f"Could not parse remote object fd {text}:{error.desc}") from None

    def _forget(self, id: str) -> None:
        self._fds.pop(id, None)

    def _complete(self, obj: UserObject) -> None:
        if not self._process.profile.traits.iommufd_saved:
            return
        saved, fd = self.descriptors.saved, self._fds.get(obj.name)
        if fd is None:
            if self._process.host.file_error(_DEVICE) is not None:
                raise QapiError(self._objects.about(_TYPE)["error"])
        elif self.descriptors.cpr_is_incoming:
            self._fds[obj.name] = saved.find(obj.name)
        else:
            saved.save(obj.name, fd)
