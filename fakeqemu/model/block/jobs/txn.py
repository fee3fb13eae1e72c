"""Jobs of one transaction: they complete together, or not at all.

See job.c: job_txn_new(), job_completed_txn_success_locked(), job_do_finalize_locked() and
job_completed_txn_abort_locked().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

CANCELED = "Operation canceled"

if TYPE_CHECKING:
    from fakeqemu.model.block.jobs.job import Job
    from fakeqemu.qapi.errors import QapiError


class Transaction:
    """Jobs that complete together, or not at all."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.aborting = False

    def forget(self, job: Job) -> None:
        """It is none of these any more."""
        if job in self.jobs:
            self.jobs.remove(job)

    def work_ended(self) -> None:
        """The work of one job is over: when that of all is they wait to be finalized, or are."""
        if any(not job.finished for job in self.jobs):
            return
        for job in list(self.jobs):
            job.state.enter("pending")
            if not job.auto_finalize:
                job.pending()
        if all(job.auto_finalize for job in self.jobs):
            self.finalize()

    def finalize(self) -> None:
        """Make the result of all jobs so, or of none."""
        jobs = list(self.jobs)
        for job in jobs:
            _, error = job.jobs.process.guard.attempt(job.prepare)
            if error is not None:
                job.error = error.desc
                fail(job)
                return
        for job in jobs:
            job.finalize_single()


#: what jobs belong to that have ended
OVER = Transaction()


def fail(failed: Job) -> None:
    """One job failed, so all jobs of its transaction do."""
    transaction = failed.transaction
    if transaction.aborting:
        return
    transaction.aborting = True
    if failed.finished and failed.state.current not in ("aborting", "created"):
        failed.state.enter("aborting")
    for job in transaction.jobs:
        if job is not failed:
            job.cancel_async(force=True)
    for job in list(transaction.jobs):
        if not job.finished and job.started:
            job.end_now()
        if not job.error:
            job.error = CANCELED
        if job.state.current not in ("aborting", "created"):
            job.state.enter("aborting")
        job.finalize_single()


def fail_by_bug(job: Job, error: QapiError) -> None:
    """A job fails, and its transaction with it, for an exception in its work or its end."""
    if not job.finished:
        job.work_ended(error.desc)
    elif job.state.current not in ("concluded", "null"):
        job.error = job.error or error.desc
        fail(job)
