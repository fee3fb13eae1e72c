"""What QEMU says when a stream cannot be loaded.

Up to 10.x each layer prints a line as the error passes and the last line bears only the
system's text; 11.1 carries the cause along in one line and prints little before. Both are
built here from the same calls, so the reader says what is wrong once.

See migration/savevm.c: qemu_loadvm_state_main() and qemu_loadvm_section_start_full();
migration/vmstate.c: vmstate_load_state(); migration/migration.c: process_incoming_migration_co().
"""

from __future__ import annotations

import errno as codes
import os

from fakeqemu.qapi.errors import FakeQemuError

EINVAL = codes.EINVAL
EIO = codes.EIO
ENOENT = codes.ENOENT
ENOTSUP = codes.ENOTSUP
EPERM = codes.EPERM
ERANGE = codes.ERANGE
EAGAIN = codes.EAGAIN


class StreamError(FakeQemuError):
    """A stream that QEMU refuses.

    `errno` is the positive number of the system error, `reports` are the lines QEMU prints
    before the last one, `cause` is what 11.1 adds to it (empty before).
    """

    def __init__(self, errno: int, reports: tuple[str, ...] = (), cause: str = "") -> None:
        self.errno = errno
        self.reports = reports
        self.cause = cause
        super().__init__(self.text)

    @property
    def text(self) -> str:
        """The last line, which is also `error-desc` of query-migrate."""
        text = f"load of migration failed: {os.strerror(self.errno)}"
        return f"{text}: {self.cause}" if self.cause else text

    @property
    def lines(self) -> tuple[str, ...]:
        """Everything QEMU prints, last line included."""
        return (*self.reports, self.text)


class LoadError(Exception):
    """An error on its way up through the layers of the reader.

    `reports` are lines printed by every version, `text` is a line before 11.1 and the cause
    from then on; `modern` is the cause where the words differ, `modern_errno` the number.
    """

    def __init__(
        self,
        errno: int,
        text: str = "",
        *,
        reports: tuple[str, ...] = (),
        modern: str | None = None,
        modern_errno: int | None = None,
    ) -> None:
        super().__init__(text)
        self.errno = errno
        self.modern_errno = errno if modern_errno is None else modern_errno
        self.old_reports = (*reports, text) if text else reports
        self.new_reports = reports
        self.cause = text if modern is None else modern

    def wrap(self, old: str, new: str) -> LoadError:
        """The layer above speaks: prints `old`, or puts `new` before the cause."""
        self.old_reports = (*self.old_reports, old)
        self.cause = new + self.cause
        return self

    def error(self, *, has_cause: bool) -> StreamError:
        """The error as a version shows it; `has_cause` is the trait `load_error_has_cause`."""
        if has_cause:
            return StreamError(self.modern_errno, self.new_reports, self.cause)
        return StreamError(self.errno, self.old_reports)

    def before(self, line: str) -> LoadError:
        """Versions before 11.1 print `line` first."""
        self.old_reports = (line, *self.old_reports)
        return self
