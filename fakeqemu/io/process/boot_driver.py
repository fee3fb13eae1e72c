"""Walk a boot's requests on an event loop: the one place where its generator is resumed."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from fakeqemu.boot.requests import Request
from fakeqemu.io.host import OsHost
from fakeqemu.qapi.errors import FakeQemuError, QapiError


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
            self._host.perform, request, lambda value: self._resume(value, None)
        )
        if refusal is not None:
            self._resume(None, refusal)
