"""Every error of the project, in one tree, by who is at fault.

* `QapiError` and its children: the client asked for something QEMU refuses. They carry the
  class and the text QEMU sends.
* `NotModelledError`: our gap. The client was right, the model ends here.
* `AbortError`: the client made QEMU end by SIGABRT (`-compat ...=crash`).
* `StartupError`: QEMU would print this text and leave with `code`.
* anything else that escapes is a bug of ours (`fakeqemu.guard`); its client is sent an
  `InternalError`.

See util/error.c: error_setg_internal(); qapi/qmp-dispatch.c: qmp_error_response().
"""

from __future__ import annotations


class FakeQemuError(Exception):
    """Root of all errors this project raises on purpose."""


class QapiError(FakeQemuError):
    """An error reply: `error class` and `desc` as a QMP client sees them.

    `hint` is what QEMU prints after the text on the command line and in HMP, and never
    sends over QMP.
    """

    error_class = "GenericError"

    def __init__(self, desc: str, hint: str = "") -> None:
        super().__init__(desc)
        self.desc = desc
        self.hint = hint
        #: what is said on standard error besides, where the command line is at fault
        self.earlier: tuple[str, ...] = ()

    @property
    def with_hint(self) -> str:
        """The text as error_report_err() prints it."""
        return f"{self.desc}\n{self.hint}" if self.hint else self.desc

    def prefixed(self, prefix: str) -> QapiError:
        """The same error with `prefix` before its text."""
        error = type(self)(prefix + self.desc, self.hint)
        error.earlier = self.earlier
        return error


class CommandNotFoundError(QapiError):
    """QMP class CommandNotFound."""

    error_class = "CommandNotFound"


class DeviceNotActiveError(QapiError):
    """QMP class DeviceNotActive."""

    error_class = "DeviceNotActive"


class DeviceNotFoundError(QapiError):
    """QMP class DeviceNotFound."""

    error_class = "DeviceNotFound"


class KVMMissingCapError(QapiError):
    """QMP class KVMMissingCap."""

    error_class = "KVMMissingCap"


class NotModelledError(QapiError):
    """The profile has `name`, the model does not. Never an empty success in its place."""

    def __init__(self, name: str) -> None:
        super().__init__(f"fakeqemu does not model '{name}'")
        self.name = name

    def prefixed(self, prefix: str) -> QapiError:  # noqa: ARG002
        """Itself: it is no failure of what was asked for."""
        return self


class InternalError(QapiError):
    """A bug of fakeqemu as its client sees it; the traceback is in the journal only."""

    def __init__(self) -> None:
        super().__init__("internal error of fakeqemu")


class AbortError(FakeQemuError):
    """QEMU would end here by a signal; the text says why. Whoever owns the process ends it.

    `status` is the signal's number below zero: SIGABRT, if nothing else is said.
    """

    def __init__(self, text: str, status: int = -6) -> None:
        super().__init__(text)
        self.status = status


class FilePlace(str):
    """A place in a file that an option names (`x.cfg:3`), or a message that starts with one.

    QEMU puts no space between its own name and it. See util/error-report.c: print_loc().
    """

    __slots__ = ()


class StartupError(FakeQemuError):
    """QEMU ends here before (or while) the machine starts.

    `lines` go to standard error, each after the program's name; `code` is the exit status.
    `location` is the option QEMU blames (`-incoming foo`), empty where it blames none. `text` is
    empty where QEMU has no more to say than its earlier messages. `own_line`: the program's name
    does not stand before the message. `heading`: a line that stands by itself before the message.
    """

    def __init__(
        self,
        text: str,
        *,
        location: str = "",
        code: int = 1,
        hint: str = "",
        own_line: bool = False,
        heading: str = "",
    ) -> None:
        super().__init__(text)
        self.own_line = own_line
        self.heading = heading
        self.text = text
        self.location = location
        self.code = code
        self.hint = hint
        #: messages that went to standard error before this one, each as `message` is
        self.earlier: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """All messages, the last one being its own, if it has one."""
        return (*self.earlier, self.message) if self.text else self.earlier

    @property
    def message(self) -> str:
        """What stands after `qemu-system-x86_64: ` on standard error, hint lines included."""
        first = f"{self.location}: {self.text}" if self.location else self.text
        whole = first + (f"\n{self.hint}" if self.hint else "")
        return FilePlace(whole) if isinstance(self.location, FilePlace) else whole


def error_of_class(error_class: str, desc: str) -> QapiError:
    """The error of the class that QMP calls `error_class`."""
    kinds = (CommandNotFoundError, DeviceNotActiveError, DeviceNotFoundError, KVMMissingCapError)
    kind = next((k for k in kinds if k.error_class == error_class), QapiError)
    return kind(desc)
