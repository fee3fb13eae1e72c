"""A prepared migration as a job: ready until it is over, concluded until it is dismissed.

Proposed; how jobs behave is as in job.c: job_create() and job_complete_locked().
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fakeqemu.model.block.jobs.job import WAIT, Job, Work
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.jobs.manager import Jobs

ID = "migration"


class MigrationJob(Job):
    """The one job of a machine's migration."""

    type = "migration"
    completable = True

    def __init__(
        self,
        jobs: Jobs,
        run: Callable[[], None],
        call_off: Callable[[], None],
        cancel_migration: Callable[[], None],
    ) -> None:
        """`run` starts the migration, `call_off` forgets a prepared one. Raises QapiError.

        `cancel_migration` is for one that runs, and raises QapiError where that cannot be.
        """
        super().__init__(jobs, ID, auto_dismiss=False)
        self._run = run
        self._call_off = call_off
        self._cancel_migration = cancel_migration
        #: whether the migration was started
        self.runs = False
        #: whether it has ended, and why badly
        self.over = False
        self.outcome = ""

    @property
    def instant(self) -> bool:
        """It is ready before its command is over."""
        return self.state.current == "running"

    def work(self) -> Work:
        """Wait to be completed, start the migration, wait for its end."""
        self.set_ready()
        while not self.over:
            yield WAIT
        if self.outcome:
            raise QapiError(self.outcome)

    def prepare_complete(self) -> None:
        """Completing runs the migration. Raises QapiError."""
        if not self.runs:
            self._run()

    def prepare_cancel(self) -> None:
        """Cancelling cancels the migration that runs. Raises QapiError."""
        if self.runs and not self.over:
            self._cancel_migration()

    def abort(self) -> None:
        """Cancelled before it ran: the preparations are forgotten."""
        if not self.runs:
            self._call_off()
