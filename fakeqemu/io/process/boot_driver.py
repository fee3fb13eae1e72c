"""Walk a boot's requests on an event loop: they are performed, and its generator is resumed."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from fakeqemu.boot.requests import (
    AttachMonitor,
    Request,
    SetupPost,
    WaitForClient,
    WaitForCprState,
    WritePidFile,
)
from fakeqemu.io.files.passed_fds import check_passed
from fakeqemu.io.host import OsHost
from fakeqemu.model.chardev.chardev import Chardev
from fakeqemu.qapi.errors import FakeQemuError, QapiError
from fakeqemu.qmp.frontends import make_monitor


class BootDriver:
    """One boot on its way. `finished(None or the error)` is called once, when it is over."""

    def __init__(
        self,
        requests: Generator[Request, Any, None],
        host: OsHost,
        finished: Callable[[BaseException | None], None],
    ) -> None:
        self._requests = requests
        self._host = host
        assert host.vm is not None
        self._guard = host.vm.guard
        self._finished = finished
        self._resuming = False
        self._answers: list[tuple[Any, QapiError | None]] = []

    def start(self) -> None:
        """Go as far as nothing has to be waited for."""
        if self._host.start_delay:
            self._host.loop.call_later(self._host.start_delay, self._resume, None, None)
        else:
            self._resume(None, None)

    def _resume(self, answer: Any, error: QapiError | None) -> None:
        # An answer that comes while its request is still being performed waits for the loop
        # below instead of nesting into the generator.
        self._answers.append((answer, error))
        if self._resuming:
            return
        self._resuming = True
        try:
            while self._answers:
                self._step(*self._answers.pop())
        finally:
            self._resuming = False

    def _step(self, answer: Any, error: QapiError | None) -> None:
        try:
            request = (
                self._requests.send(answer) if error is None else self._requests.throw(error)
            )
        except StopIteration:
            self._finished(None)
            return
        except FakeQemuError as fault:
            self._finished(fault)
            return
        except Exception as bug:
            self._finished(self._guard.report(bug))
            return
        _, refusal = self._guard.attempt(
            perform, self._host, request, lambda value: self._resume(value, None)
        )
        if refusal is not None:
            self._resume(None, refusal)


def perform(host: OsHost, request: Request, done: Callable[[Any], None]) -> None:
    """Do what the boot asks; `done(answer)` is called when it is done, perhaps at once.

    Raises QapiError for a refusal.
    """
    vm = host.vm
    assert vm is not None
    match request:
        case WritePidFile(path):
            from fakeqemu.io.process.pidfile import PidFile

            file = PidFile.create(path)
            host.at_end(lambda: file.close() if host.killed else file.remove())
            done(None)
        case WaitForClient(chardev):
            location = f"{chardev.location}: " if chardev.location else ""
            host.warn(f"{location}info: QEMU waiting for connection on: {chardev.filename}")
            _when_connected(chardev, done)
        case WaitForCprState(address, reader):
            from fakeqemu.io.migration.cpr import CprReceiver

            check_passed(address, host.passed_fd)
            host.keep(CprReceiver(host.loop, address, reader, done))
        case AttachMonitor(options, chardev):
            human = options.mode != "control"
            make_monitor(vm, chardev, human=human, pretty=options.pretty)
            done(None)
        case SetupPost():
            if (root := vm.configuration.chroot) is not None:
                from fakeqemu.io.process.privileges import refuse_root

                refuse_root(root)
            if host.on_setup_post is not None:
                host.on_setup_post()
            done(None)


def _when_connected(chardev: Chardev, done: Callable[[Any], None]) -> None:
    def opened() -> None:
        chardev.on_opened = None
        done(None)

    if chardev.connected:
        done(None)
    else:
        chardev.on_opened = opened
