"""Commands of QAPI's job module, and the older ones for block jobs.

See qapi/job.json; job-qmp.c: qmp_job_pause() and qmp_query_jobs(); blockdev.c:
qmp_block_job_cancel().
"""

from __future__ import annotations

from typing import Any

from fakeqemu.commands.registry import actions, command, commands
from fakeqemu.model.block.jobs.blockjob import BlockJob
from fakeqemu.model.block.jobs.job import Job
from fakeqemu.model.block.jobs.mirror import MirrorJob
from fakeqemu.model.block.query import shaped
from fakeqemu.model.machine import Machine
from fakeqemu.qapi.errors import QapiError

Json = dict[str, Any]


@command("query-block-jobs")
def query_block_jobs(vm: Machine) -> Any:
    """BlockJobInfo list, newest first."""
    found = [job.block_info() for job in vm.block.jobs.visible() if isinstance(job, BlockJob)]
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
    job.prepare_cancel()
    job.cancel(force=force)


def _finalize(job: Job) -> None:
    job.state.check("finalize", job.id)
    job.finalize()


def _dismiss(job: Job) -> None:
    job.state.check("dismiss", job.id)
    job.dismiss()


@command("block-job-cancel")
def block_job_cancel(vm: Machine, device: str, force: bool = False) -> None:
    """End it; a ready mirror ends well unless forced."""
    job = vm.block.jobs.get_block(device)
    if job.user_paused and not force:
        raise QapiError(f"The block job for device '{device}' is currently paused")
    _cancel(job, force=force)


@command("block-job-set-speed")
def block_job_set_speed(vm: Machine, device: str, speed: int) -> None:
    """Limit how fast it works."""
    vm.block.jobs.get_block(device).set_speed(speed)


@command("block-job-change", raw=True)
def block_job_change(vm: Machine, arguments: Json) -> None:
    """Change a job's options while it runs."""
    job = vm.block.jobs.get_block(arguments["id"])
    job.state.check("change", job.id)
    if not isinstance(job, MirrorJob):
        raise QapiError("Job type does not support change")
    job.change(arguments["copy-mode"])

actions(
    {
        "job-pause": lambda vm, id: _pause(vm.block.jobs.get(id)),
        "job-resume": lambda vm, id: _resume(vm.block.jobs.get(id)),
        "job-cancel": lambda vm, id: _cancel(vm.block.jobs.get(id), force=True),
        "job-complete": lambda vm, id: vm.block.jobs.get(id).complete(),
        "job-finalize": lambda vm, id: _finalize(vm.block.jobs.get(id)),
        "job-dismiss": lambda vm, id: _dismiss(vm.block.jobs.get(id)),
        "block-job-pause": lambda vm, device: _pause(vm.block.jobs.get_block(device)),
        "block-job-resume": lambda vm, device: _resume(vm.block.jobs.get_block(device)),
        "block-job-complete": lambda vm, device: vm.block.jobs.get_block(device).complete(),
        "block-job-finalize": lambda vm, id: _finalize(vm.block.jobs.get_block(id)),
        "block-job-dismiss": lambda vm, id: _dismiss(vm.block.jobs.get_block(id)),
    }
)

commands({"query-jobs": lambda vm: [job.info() for job in vm.block.jobs.visible()]})
