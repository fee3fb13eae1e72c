"""Block jobs and snapshots."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

from accept.errors import Failed, Skipped
from accept.lab import Lab
from accept.registry import step

NAME = "acc-blk"


def chain(lab: Lab) -> list[str]:
    """Images of vda, the active one first."""
    node: ET.Element | None = lab.device(
        NAME, "devices/disk", lambda each: each.find("target[@dev='vda']") is not None
    )
    names = []
    while node is not None:
        source = node.find("source")
        if source is not None and source.get("file"):
            names.append(Path(source.get("file", "")).name)
        node = node.find("backingStore")
    return names


def check_chain(lab: Lab, *wanted: str) -> None:
    found = chain(lab)
    if found != list(wanted):
        raise Failed(f"the chain is {found}, not {list(wanted)}")


def fresh(lab: Lab) -> None:
    """A new domain with a disk of one image."""
    lab.near.gone(NAME)
    lab.image(f"{NAME}.qcow2")
    lab.running(NAME)


def overlay(lab: Lab, name: str) -> str:
    """Put a new image over the disk; the image's name."""
    path = lab.images / f"{NAME}-{name}.qcow2"
    path.unlink(missing_ok=True)
    words = ("--disk-only", "--no-metadata", "--diskspec", f"vda,file={path}")
    lab.near.virsh("snapshot-create-as", NAME, name, *words, timeout=60)
    return path.name


def snapshots(lab: Lab) -> str:
    return lab.near.virsh("snapshot-list", "--name", NAME)


@step("block.snapshot-disk-only")
def snapshot_disk_only(lab: Lab) -> None:
    fresh(lab)
    check_chain(lab, overlay(lab, "s1"), f"{NAME}.qcow2")


@step("block.blockpull")
def blockpull(lab: Lab) -> None:
    lab.running(NAME)
    if len(chain(lab)) < 2:
        overlay(lab, "s1")
    mark = lab.near.mark()
    lab.near.virsh("blockpull", NAME, "vda", "--wait", timeout=60)
    if len(chain(lab)) != 1:
        raise Failed(str(chain(lab)))
    lab.near.wait_event(rf"block-job.*{NAME}.*Block Pull.*[Cc]ompleted", mark)


@step("block.commit-active-pivot")
def commit_active_pivot(lab: Lab) -> None:
    fresh(lab)
    base = chain(lab)
    overlay(lab, "c1")
    mark = lab.near.mark()
    words = ("blockcommit", NAME, "vda", "--active", "--wait", "--pivot")
    lab.near.virsh(*words, timeout=60)
    check_chain(lab, *base)
    lab.near.wait_event(rf"block-job.*{NAME}.*[Rr]eady", mark)


@step("block.commit-intermediate")
def commit_intermediate(lab: Lab) -> None:
    fresh(lab)
    base = chain(lab)[0]
    middle, top = overlay(lab, "i1"), overlay(lab, "i2")
    words = ("--top", lab.images / middle, "--base", lab.images / base, "--wait")
    lab.near.virsh("blockcommit", NAME, "vda", *words, timeout=60)
    check_chain(lab, top, base)


def blockcopy(lab: Lab, path: Path, *more: str) -> None:
    path.unlink(missing_ok=True)
    words = ("blockcopy", NAME, "vda", path, "--format", "qcow2", "--transient-job")
    lab.near.virsh(*words, *more, timeout=60)


@step("block.blockcopy-pivot")
def blockcopy_pivot(lab: Lab) -> None:
    fresh(lab)
    path = lab.images / f"{NAME}-copy.qcow2"
    blockcopy(lab, path, "--wait", "--pivot")
    check_chain(lab, path.name)


@step("block.blockcopy-abort")
def blockcopy_abort(lab: Lab) -> None:
    fresh(lab)
    source = chain(lab)
    blockcopy(lab, lab.images / f"{NAME}-copy2.qcow2")

    def copied() -> bool:
        outcome = lab.near.ask("blockjob", NAME, "vda")
        return "100" in outcome.out + outcome.err

    lab.until(copied, 30, "the job at 100 %")
    for word in ("--info", "10", "--abort"):
        lab.near.virsh("blockjob", NAME, "vda", word)
    check_chain(lab, *source)


@step("block.pull-throttled-abort")
def pull_throttled_abort(lab: Lab) -> None:
    """24 MiB at 1 MiB/s: the job must be seen running, then be aborted."""
    lab.near.gone(NAME)
    base = lab.images / f"{NAME}-base.raw"
    base.write_bytes(os.urandom(1 << 20) * 24)
    base.chmod(0o666)
    lab.running(NAME, disk=base)
    top = overlay(lab, "t1")
    lab.near.virsh("blockpull", NAME, "vda", "--bandwidth", "1", timeout=60)
    outcome = lab.near.ask("blockjob", NAME, "vda", "--info")
    said = outcome.out + outcome.err
    found = re.search(r"Block Pull.*?(\d+)(?:\.\d+)? ?%", said)
    if not found or int(found.group(1)) >= 100:
        raise Failed("the job was not seen running: " + said.strip()[:200])
    lab.near.virsh("blockjob", NAME, "vda", "--abort", timeout=40)
    check_chain(lab, top, base.name)
    lab.near.gone(NAME)


@step("block.blockjob-none")
def blockjob_none(lab: Lab) -> None:
    lab.running(NAME)
    said = lab.near.ask("blockjob", NAME, "vda", "--info").out
    if "Block Copy" in said or "Block Pull" in said:
        raise Failed(said)


@step("block.snapshot-memory-external")
def snapshot_memory_external(lab: Lab) -> None:
    """Disk and memory; the memory is a migration to a file."""
    fresh(lab)
    memory, image = lab.images / f"{NAME}-mem.img", lab.images / f"{NAME}-m1.qcow2"
    for path in (memory, image):
        path.unlink(missing_ok=True)
    words = ["--live", "--atomic", "--memspec", f"file={memory},snapshot=external"]
    words += ["--diskspec", f"vda,file={image}"]
    lab.near.virsh("snapshot-create-as", NAME, "m1", *words, timeout=90)
    if not memory.exists() or memory.stat().st_size < 512:
        raise Failed("no memory image")
    lab.near.wait_state(NAME, "running")
    if "m1" not in snapshots(lab):
        raise Failed("not listed")
    lab.near.virsh("snapshot-delete", NAME, "m1", "--metadata")


@step("block.snapshot-internal")
def snapshot_internal(lab: Lab) -> None:
    fresh(lab)
    lab.near.virsh("snapshot-create-as", NAME, "int1", timeout=90)
    if "int1" not in snapshots(lab):
        raise Failed("not listed")
    lab.near.wait_state(NAME, "running")


@step("block.snapshot-internal-revert")
def snapshot_internal_revert(lab: Lab) -> None:
    if "int1" not in snapshots(lab):
        raise Failed("no snapshot int1")
    lab.near.virsh("snapshot-revert", NAME, "int1", timeout=90)
    lab.near.wait_state(NAME, "running")


@step("block.snapshot-internal-delete")
def snapshot_internal_delete(lab: Lab) -> None:
    lab.near.virsh("snapshot-delete", NAME, "int1", timeout=60)
    if "int1" in snapshots(lab):
        raise Failed("still listed")


@step("block.backup-push")
def backup_push(lab: Lab) -> None:
    fresh(lab)
    path = lab.images / f"{NAME}-backup.qcow2"
    path.unlink(missing_ok=True)
    xml = f"""<domainbackup mode='push'><disks><disk name='vda' backup='yes' type='file'>
    <driver type='qcow2'/><target file='{path}'/></disk></disks></domainbackup>"""
    mark = lab.near.mark()
    lab.near.virsh("backup-begin", NAME, lab.file(xml), timeout=60)
    lab.near.wait_event(rf"job-completed.*{NAME}", mark, 30)
    if not path.exists():
        raise Failed("no backup file")


@step("block.checkpoint")
def checkpoint(lab: Lab) -> None:
    """Dirty bitmaps."""
    lab.running(NAME)
    lab.near.virsh("checkpoint-create-as", NAME, "cp1", timeout=60)
    if "cp1" not in lab.near.virsh("checkpoint-list", "--name", NAME):
        raise Failed("not listed")
    lab.near.virsh("checkpoint-delete", NAME, "cp1")


@step("block.backup-pull-incremental")
def backup_pull_incremental(lab: Lab) -> None:
    """What was written since a checkpoint, as a backup program asks for it over NBD."""
    if shutil.which("nbdinfo") is None:
        raise Skipped("nbdinfo (libnbd-bin) is not installed")
    fresh(lab)
    lab.near.virsh("checkpoint-create-as", NAME, "cp1", timeout=60)
    disk = lab.near.qmp(NAME, "query-block")[0]["qdev"]
    lab.near.hmp(NAME, f'qemu-io -d {disk} "write -P 7 3M 128k"')
    path = lab.images / "nbd"
    xml = f"""<domainbackup mode='pull'><incremental>cp1</incremental>
    <server transport='unix' socket='{path}'/>
    <disks><disk name='vda' backup='yes' type='file' exportname='vda' exportbitmap='since'>
    <scratch file='{lab.images}/{NAME}-scratch.qcow2'/></disk></disks></domainbackup>"""
    lab.near.virsh("backup-begin", NAME, lab.file(xml), timeout=60)
    lab.near.hmp(NAME, f'qemu-io -d {disk} "write -P 9 3M 64k"')
    lab.near.hmp(NAME, f'qemu-io -d {disk} "write -P 9 8M 64k"')
    try:
        uri = f"nbd+unix:///vda?socket={path}"
        dirty = [
            (each["offset"], each["length"])
            for each in json.loads(_nbd("nbdinfo", "--json", "--map=qemu:dirty-bitmap:since", uri))
            if each["type"] == 1
        ]
        if dirty != [(3 << 20, 128 << 10)]:
            raise Failed(f"dirty is {dirty}")
        copy = lab.images / f"{NAME}-copy"
        _nbd("nbdcopy", uri, str(copy))
        with copy.open("rb") as data:
            data.seek(3 << 20)
            if data.read(128 << 10) != b"\7" * (128 << 10):
                raise Failed("the copy does not have what was there when the backup began")
            data.seek(8 << 20)
            if any(data.read(64 << 10)):
                raise Failed("the copy has what was written after the backup began")
    finally:
        lab.near.virsh("domjobabort", NAME)


def _nbd(*words: str) -> str:
    done = subprocess.run(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60
    )
    if done.returncode:
        raise Failed(f"{words[0]}: {done.stdout}")
    return done.stdout


@step("block.cleanup")
def cleanup(lab: Lab) -> None:
    lab.near.gone(NAME)
