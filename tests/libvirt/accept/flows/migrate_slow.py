"""Migration that takes long enough to be asked about, hurried, and turned to post-copy."""

from __future__ import annotations

import signal

from accept.errors import Failed, Skipped
from accept.flows.migrating import (
    NAME,
    begin,
    check_moved,
    clean_up,
    finish,
    has,
    migrate,
    must_fail,
    prepare_slow,
)
from accept.lab import Lab
from accept.registry import step


@step("migrate.jobinfo")
def jobinfo(lab: Lab) -> None:
    far = prepare_slow(lab)
    child = begin(lab)
    said = lab.near.virsh("domjobinfo", NAME)
    mark = lab.near.mark()
    for pattern in (
        r"Operation:\s+Outgoing migration",
        r"Memory total:\s+[\d.]+ GiB",
        r"Memory remaining:",
        r"Time elapsed:",
    ):
        if not has(pattern, said):
            raise Failed(f"domjobinfo lacks {pattern}: {said}")
    lab.near.virsh("migrate-setmaxdowntime", NAME, "800")
    lab.near.virsh("migrate-setspeed", NAME, "4000")
    finish(lab, child)
    check_moved(lab.near, far)
    lab.near.wait_event(rf"event 'job-completed' for domain '{NAME}", mark)
    if f"event 'migration-iteration' for domain '{NAME}" not in lab.near.events():
        raise Failed("no migration-iteration event (MIGRATION_PASS) on the source")
    said = far.virsh("domjobinfo", NAME, "--completed")
    if "Memory processed" not in said:
        raise Failed("no statistics of the completed job on the destination: " + said)


@step("migrate.timeout-suspend")
def timeout_suspend(lab: Lab) -> None:
    far = prepare_slow(lab)
    child = begin(lab, "--timeout", "1", "--timeout-suspend")

    def suspended() -> bool:
        return child.poll() is not None or lab.near.state(NAME).startswith("paused")

    lab.until(suspended, 20, "suspend by time-out")
    lab.near.ask("migrate-setspeed", NAME, "4000")
    finish(lab, child)
    check_moved(lab.near, far)


@step("migrate.postcopy")
def postcopy(lab: Lab) -> None:
    far = prepare_slow(lab)
    mark = lab.near.mark()
    child = begin(lab, "--postcopy")
    lab.near.virsh("migrate-postcopy", NAME)
    finish(lab, child, 120)
    check_moved(lab.near, far)
    lab.near.wait_event(rf"lifecycle.*{NAME}.*(Suspended|Stopped) (Post-copy|Migrated)", mark)


@step("migrate.postcopy-recover")
def postcopy_recover(lab: Lab) -> None:
    """Break the post-copy phase and resume it on a new connection.

    The firmware is one `cli; hlt`: with timer interrupts a real QEMU under TCG faults with the
    big lock held, its main loop blocks, and libvirt hangs with it.
    """
    bios = lab.images / "hlt.bin"
    bios.write_bytes(b"\xf4" * 0xFFF0 + b"\xfa\xf4\xeb\xfc" + bytes(12))
    far = prepare_slow(lab, bios=bios)
    mark = lab.near.mark()
    child = begin(lab, "--postcopy", "--postcopy-bandwidth", "1")
    lab.near.virsh("migrate-postcopy", NAME)
    lab.near.wait_event(rf"lifecycle.*{NAME}.*Suspended Post-copy", mark)
    lab.near.virsh("domjobabort", "--postcopy", NAME)
    must_fail(lab, child)
    lab.near.wait_state(NAME, "paused (post-copy failed)", 20)
    lab.until(lambda: "post-copy failed" in far.state(NAME), 20, "post-copy failed there")
    try:
        options = ("--postcopy", "--postcopy-resume", "--postcopy-bandwidth", "4000")
        migrate(lab, *options, timeout=60)
    except Failed:
        # libvirt 11.3.0 does, with a real QEMU too
        if far.process and far.process.wait(1) == -signal.SIGSEGV:
            raise Skipped("this libvirtd itself segfaults on --postcopy-resume") from None
        raise
    check_moved(lab.near, far)


@step("migrate_slow.cleanup")
def cleanup(lab: Lab) -> None:
    clean_up(lab)
