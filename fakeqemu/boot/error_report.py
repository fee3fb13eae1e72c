"""What QEMU prints while it reads its command line, and the two ways it ends there.

QEMU reports as it goes: warnings, and lines before the one that ends it. `Messages` keeps
them in order, so that whoever owns standard error can print them however the start went.

See util/error-report.c: error_report(), warn_report() and print_loc().
"""

from __future__ import annotations

from typing import NoReturn

from fakeqemu.qapi.errors import FakeQemuError, FilePlace, QapiError, StartupError


class EarlyExit(FakeQemuError):  # noqa: N818 - it is no error
    """QEMU answers and leaves without starting a machine: help texts, the version.

    `stdout` goes to standard output as it stands; `code` is the exit status; `earlier` are
    messages for standard error, each after the program's name.
    """

    def __init__(self, stdout: str, code: int = 0) -> None:
        super().__init__(f"exit {code}")
        self.stdout = stdout
        self.code = code
        self.earlier: tuple[str, ...] = ()


def located(text: str, location: str, hint: str = "") -> str:
    """One message as it stands after the program's name; `hint` is a line of its own."""
    first = f"{location}: {text}" if location else text
    whole = f"{first}\n{hint.rstrip()}" if hint else first
    return FilePlace(whole) if isinstance(location, FilePlace) else whole


class Messages:
    """The lines printed so far, each without the program's name."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, text: str, location: str = "", hint: str = "") -> None:
        """A warning on standard error, which does not end the boot."""
        self.lines.append(located(f"warning: {text}", location, hint))

    def report(self, text: str, location: str = "", hint: str = "") -> None:
        """An error that does not itself end the start."""
        self.lines.append(located(text, location, hint))

    def error(self, text: str, location: str = "", hint: str = "") -> StartupError:
        """The error that ends the start, to be raised."""
        error = StartupError(text, location=location, hint=hint)
        error.earlier = tuple(self.lines)
        return error

    def fail(self, text: str, location: str = "", hint: str = "") -> NoReturn:
        """End the start. Raises StartupError."""
        raise self.error(text, location, hint)

    def fail_with(self, error: QapiError, location: str = "") -> NoReturn:
        """End the start with `error`. Raises StartupError."""
        self.fail(error.desc, location, error.hint.rstrip())
