"""Commands of QAPI's job module, and the older ones for block jobs.

See qapi/job.json; job-qmp.c: qmp_job_pause() and qmp_query_jobs(); blockdev.c:
qmp_block_job_cancel().
"""

from __future__ import annotations

from typing import Any

from fakeqemu.commands.registry import command
from fakeqemu.model.block.jobs.job import Job
from fakeqemu.model.block.jobs.mirror import Mirror
from fakeqemu.model.block.query import shaped
from fakeqemu.model.machine import Machine
from fakeqemu.qapi.errors import QapiError

Json = dict[str, Any]


@command("query-jobs")
def query_jobs(vm: Machine) -> list[Json]:
    """JobInfo list, newest first."""
    return [job.info() for job in vm.block.jobs.visible()]


@command("query-block-jobs")
def query_block_jobs(vm: Machine) -> Any:
    """BlockJobInfo list, newest first."""
    found = [job.block_info() for job in vm.block.jobs.visible() if job.is_block]
    return shaped(vm.profile.schema, "query-block-jobs", found)


def _pause(job: Job) -> None:
    job.state.check("pause", job.id)
    if job.user_paused:
        raise QapiError("Job is already paused")
    job.user_paused = True
    job.pause()


def _resume(job: Job) -> None:
    if not job.user_paused or job.pause_count <= 0:
        raise QapiError("Can't resume a job that was not paused")
    job.state.check("resume", job.id)
    job.io_status = "ok"
    job.user_paused = False
    job.resume()


def _cancel(job: Job, *, force: bool) -> None:
    job.state.check("cancel", job.id)
    job.cancel(force=force)


def _finalize(job: Job) -> None:
    job.state.check("finalize", job.id)
    job.finalize()


def _dismiss(job: Job) -> None:
    job.state.check("dismiss", job.id)
    job.dismiss()


@command("job-pause")
def job_pause(vm: Machine, id: str) -> None:
    """Let a job stand still."""
    _pause(vm.block.jobs.get(id))


@command("job-resume")
def job_resume(vm: Machine, id: str) -> None:
    """Let it go on."""
    _resume(vm.block.jobs.get(id))


@command("job-cancel")
def job_cancel(vm: Machine, id: str) -> None:
    """End it, whatever it does."""
    _cancel(vm.block.jobs.get(id), force=True)


@command("job-complete")
def job_complete(vm: Machine, id: str) -> None:
    """Let a ready job end well."""
    vm.block.jobs.get(id).complete()


@command("job-finalize")
def job_finalize(vm: Machine, id: str) -> None:
    """Make a pending job's result so."""
    _finalize(vm.block.jobs.get(id))


@command("job-dismiss")
def job_dismiss(vm: Machine, id: str) -> None:
    """Forget a concluded job."""
    _dismiss(vm.block.jobs.get(id))


@command("block-job-pause")
def block_job_pause(vm: Machine, device: str) -> None:
    """Let a job stand still."""
    _pause(vm.block.jobs.get_block(device))


@command("block-job-resume")
def block_job_resume(vm: Machine, device: str) -> None:
    """Let it go on."""
    _resume(vm.block.jobs.get_block(device))


@command("block-job-cancel")
def block_job_cancel(vm: Machine, device: str, force: bool = False) -> None:
    """End it; a ready mirror ends well unless forced."""
    job = vm.block.jobs.get_block(device)
    if job.user_paused and not force:
        raise QapiError(f"The block job for device '{device}' is currently paused")
    _cancel(job, force=force)


@command("block-job-complete")
def block_job_complete(vm: Machine, device: str) -> None:
    """Let a ready job end well."""
    vm.block.jobs.get_block(device).complete()


@command("block-job-finalize")
def block_job_finalize(vm: Machine, id: str) -> None:
    """Make a pending job's result so."""
    _finalize(vm.block.jobs.get_block(id))


@command("block-job-dismiss")
def block_job_dismiss(vm: Machine, id: str) -> None:
    """Forget a concluded job."""
    _dismiss(vm.block.jobs.get_block(id))


@command("block-job-set-speed")
def block_job_set_speed(vm: Machine, device: str, speed: int) -> None:
    """Limit how fast it works."""
    vm.block.jobs.get_block(device).set_speed(speed)


@command("block-job-change", raw=True)
def block_job_change(vm: Machine, arguments: Json) -> None:
    """Change a job's options while it runs."""
    job = vm.block.jobs.get_block(arguments["id"])
    job.state.check("change", job.id)
    if not isinstance(job, Mirror):
        raise QapiError("Job type does not support change")
    job.change(arguments["copy-mode"])
