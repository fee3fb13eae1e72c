"""Migration that is aborted, or loses one of its ends."""

from __future__ import annotations

import os
import signal

from accept.errors import Failed
from accept.flows.migrating import (
    NAME,
    begin,
    check_moved,
    clean_up,
    has,
    migrate,
    must_fail,
    prepare_slow,
    wait_absent,
)
from accept.lab import Lab
from accept.registry import step


@step("migrate.abort")
def abort(lab: Lab) -> None:
    far = prepare_slow(lab)
    child = begin(lab)
    lab.near.virsh("domjobabort", NAME)
    said = must_fail(lab, child, 40)
    if not has("abort|cancel", said):
        raise Failed("unexpected error: " + said.strip()[-300:])
    lab.near.wait_state(NAME, "running")
    wait_absent(far, 20)
    if lab.near.qmp(NAME, "query-status").get("status") != "running":
        raise Failed("the source's emulator is not running after the abort")


@step("migrate.after-abort")
def after_abort(lab: Lab) -> None:
    """The source of an aborted migration can migrate again."""
    far = lab.need_far()
    if not lab.near.state(NAME).startswith("running"):
        raise Failed("no running domain left by migrate.abort")
    migrate(lab)
    check_moved(lab.near, far)


@step("migrate.kill-source")
def kill_source(lab: Lab) -> None:
    far = prepare_slow(lab)
    child = begin(lab)
    os.kill(lab.near.pid_of(NAME), signal.SIGKILL)
    must_fail(lab, child)
    wait_absent(far)
    lab.near.wait_state(NAME, "shut off")


@step("migrate.kill-destination")
def kill_destination(lab: Lab) -> None:
    far = prepare_slow(lab)
    child = begin(lab)
    os.kill(far.pid_of(NAME), signal.SIGKILL)
    must_fail(lab, child)
    lab.near.wait_state(NAME, "running", 30)
    wait_absent(far)


@step("migrate_broken.cleanup")
def cleanup(lab: Lab) -> None:
    clean_up(lab)
