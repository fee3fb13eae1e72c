"""Migration with every option that changes what the emulator is asked for."""

from __future__ import annotations

from accept.errors import Failed
from accept.flows.migrating import BASE, NAME, TCP, check_moved, clean_up, migrate, prepare
from accept.lab import Lab
from accept.registry import step


@step("migrate.paused-guest")
def paused_guest(lab: Lab) -> None:
    far = prepare(lab)
    lab.near.virsh("suspend", NAME)
    migrate(lab)
    far.wait_state(NAME, "paused")
    far.virsh("resume", NAME)
    check_moved(lab.near, far)


@step("migrate.suspend-flag")
def suspend_flag(lab: Lab) -> None:
    far = prepare(lab)
    migrate(lab, "--suspend")
    far.wait_state(NAME, "paused")
    far.virsh("resume", NAME)
    check_moved(lab.near, far)


@step("migrate.offline-nonlive")
def offline_nonlive(lab: Lab) -> None:
    """Without --live the source is paused first."""
    far = prepare(lab)
    words = [word for word in BASE if word != "--live"]
    lab.near.virsh(*words, "--p2p", NAME, far.uri, *TCP, timeout=90)
    check_moved(lab.near, far)


@step("migrate.dname-xml")
def dname_xml(lab: Lab) -> None:
    far, name = prepare(lab), f"{NAME}-new"
    far.gone(name)
    migrate(lab, "--dname", name)
    check_moved(lab.near, far, name)
    far.gone(name)


@step("migrate.parallel")
def parallel(lab: Lab) -> None:
    far = prepare(lab)
    migrate(lab, "--parallel", "--parallel-connections", "3")
    check_moved(lab.near, far)


@step("migrate.compressed-autoconverge")
def compressed_autoconverge(lab: Lab) -> None:
    far = prepare(lab)
    migrate(lab, "--compressed", "--comp-methods", "xbzrle", "--auto-converge")
    check_moved(lab.near, far)


@step("migrate.postcopy-after-precopy")
def postcopy_after_precopy(lab: Lab) -> None:
    far = prepare(lab)
    for attempt in range(3):
        try:
            migrate(lab, "--postcopy", "--postcopy-after-precopy")
            break
        except Failed as failed:
            # a real QEMU 11.1.3 loses this race about once in seven and resumes the source
            if "Sibling indicated error" not in str(failed) or attempt == 2:
                raise
            lab.near.wait_state(NAME, "running")
    check_moved(lab.near, far)


@step("migrate.copy-storage")
def copy_storage(lab: Lab) -> None:
    """The disk is copied too: an NBD server there, a mirror job here."""
    far = lab.need_far()
    clean_up(lab)
    here, there = lab.image("mig-src.qcow2"), lab.image("mig-dst.qcow2")
    lab.running(NAME, memory=256, disk=here)
    xml = lab.near.virsh("dumpxml", "--migratable", NAME).replace(str(here), str(there))
    path = lab.file(xml)
    options = ("--copy-storage-all", "--xml", path, "--persistent-xml", path)
    migrate(lab, *options, timeout=120)
    check_moved(lab.near, far)
    if str(there) not in far.virsh("domblklist", NAME):
        raise Failed("the destination does not use the new disk")


@step("migrate_options.cleanup")
def cleanup(lab: Lab) -> None:
    clean_up(lab)
