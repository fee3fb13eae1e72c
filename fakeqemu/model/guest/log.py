"""The log of what the guest does, as far as it can be seen: the file that it goes to.

Nothing is ever logged: CPUs execute nothing. The file is made all the same, as QEMU's own log of
trace events may go there.

See util/log.c: qemu_set_log_internal() and valid_filename_template().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.configuration import Configuration
    from fakeqemu.model.host import Host

_PER_THREAD_TEMPLATE = "Filename template with '%d' required for 'tid'"


def check_template(path: str | None, *, per_thread: bool) -> None:
    """Raise QapiError unless `%d`, for a number, is all that `path` leaves open.

    `per_thread`: there must be one.
    """
    _, mark, after = (path or "").partition("%")
    if mark and (not after.startswith("d") or "%" in after):
        raise QapiError(f"Bad logfile template: {path}")
    if per_thread and not mark:
        raise QapiError(_PER_THREAD_TEMPLATE)


def file_name(path: str, number: int) -> str:
    """`path` with that number for its `%d`."""
    return path.replace("%d", str(number), 1)


class GuestLog:
    """Where the log goes: `file`, or standard error."""

    def __init__(self, host: Host, configuration: Configuration) -> None:
        self._host = host
        #: whether each thread has a file of its own, which it makes with its first line
        self._per_thread = configuration.log_per_thread
        path = configuration.log_file
        self._file = self._name(path) if path is not None else None
        #: whether it has been made
        self._made = self._file is not None

    def set_file(self, path: str) -> None:
        """Let the log go to another file from now on. Raises QapiError."""
        if self._per_thread:
            raise QapiError("Cannot change log filename after setting 'tid'")
        check_template(path, per_thread=False)
        self._file = self._name(path)
        self._made = False
        self._make()

    def choose(self, *, per_thread: bool) -> None:
        """Other things are to be logged; `per_thread`: by each thread for itself.

        Raises QapiError: also for a file that could not be made before.
        """
        if not self._per_thread and self._file is None and per_thread:
            raise QapiError(_PER_THREAD_TEMPLATE)
        self._make()

    def _name(self, path: str) -> str:
        return path if self._per_thread else file_name(path, self._host.monotonic_thread_id())

    def _make(self) -> None:
        if self._made or self._per_thread or self._file is None:
            return
        try:
            self._host.create_output(self._file, fdsets=False).close()
        except OSError as error:
            raise QapiError(f"Error opening logfile {self._file}: {error.strerror}") from None
        self._made = True
