"""Dumps of guest memory: the refusals, the file, DUMP_COMPLETED. The file has no guest in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine

#: what a PC's dump has besides its RAM: the firmware
_FIRMWARE = 256 << 10


class Dump:
    """The dump of one machine; there is at most one at a time."""

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self.status = "none"
        self._completed = 0
        self._total = 0
        self._resume = False
        vm.lifecycle.cont_blockers["There is a dump in process, please wait."] = (
            lambda: self.status == "active"
        )

    def query(self) -> dict[str, Any]:
        """DumpQueryResult."""
        return {"status": self.status, "completed": self._completed, "total": self._total}

    def start(self, options: dict[str, Any], monitor: Any) -> None:
        """What dump-guest-memory does. Raises QapiError."""
        vm, format = self._vm, options.get("format", "elf")
        if vm.runstate.check("inmigrate"):
            raise QapiError("Dump not allowed during incoming migration.")
        if self.status == "active":
            raise QapiError("There is a dump in process, please wait.")
        if format != "elf" and (options["paging"] or "begin" in options or "length" in options):
            raise QapiError("kdump-compressed format doesn't support paging or filter")
        for here, other in (("begin", "length"), ("length", "begin")):
            if here in options and other not in options:
                raise QapiError(texts.missing_parameter(other))
        self._check_format(format)
        self._open(options["protocol"], monitor)
        if "length" in options and options["length"] == 0:
            raise QapiError("parameter 'length' expects a non-zero size")
        self._begin(detached=options.get("detach", False))

    def _check_format(self, format: str) -> None:
        vm = self._vm
        formats = vm.profile.query("query-dump-guest-memory-capability")["return"]["formats"]
        for kind in ("lzo", "snappy"):
            if format.endswith(kind) and format not in formats:
                raise QapiError(f"kdump-{kind} is not available now")
        if format == "win-dmp":
            raise QapiError(vm.profile.traits.win_dump_refusal)

    def _open(self, protocol: str, monitor: Any) -> None:
        vm = self._vm
        if protocol.startswith("fd:"):
            vm.host.close_fd(vm.named_fds(monitor).take(protocol[3:]))
        elif protocol.startswith("file:"):
            path = protocol[5:]
            try:
                vm.host.create_file(path, 0)
            except OSError as error:
                verb = vm.profile.traits.dump_open_verb
                raise QapiError(f"Could not {verb} '{path}': {error.strerror}") from None
        else:
            raise QapiError(vm.profile.traits.dump_protocol_text)

    def _begin(self, *, detached: bool) -> None:
        vm = self._vm
        self._resume = vm.lifecycle.vm_stop("save-vm")
        self.status = "active"
        self._completed = 0
        self._total = vm.memory.size + _FIRMWARE
        if detached:
            vm.clock.call_later(0, self._finish)
        else:
            self._finish()

    def _finish(self) -> None:
        self.status = "completed"
        self._completed = self._total
        if self._resume:
            self._vm.lifecycle.vm_start()
        self._vm.events.emit("DUMP_COMPLETED", {"result": self.query()})
