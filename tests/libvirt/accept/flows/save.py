"""Memory of a domain in files: saved, restored, dumped."""

from __future__ import annotations

import re
from pathlib import Path

from accept.errors import Failed
from accept.lab import Lab
from accept.registry import step

NAME = "acc-save"
#: bytes; less is no image of anything
LEAST = 512


def check_size(path: Path) -> None:
    if path.stat().st_size < LEAST:
        raise Failed(f"{path.name} is too small")


@step("save.save")
def save(lab: Lab) -> None:
    lab.running(NAME)
    path = lab.images / "save.img"
    mark = lab.near.mark()
    lab.near.virsh("save", NAME, path, timeout=60)
    lab.near.wait_state(NAME, "shut off (saved)")
    lab.near.wait_event(rf"lifecycle.*{NAME}.*Stopped Saved", mark)
    check_size(path)


@step("save.restore")
def restore(lab: Lab) -> None:
    path = lab.images / "save.img"
    if not path.exists():
        raise Failed("no save image")
    mark = lab.near.mark()
    lab.near.virsh("restore", path, timeout=60)
    lab.near.wait_state(NAME, "running")
    lab.near.wait_event(rf"lifecycle.*{NAME}.*Restored", mark)
    if lab.near.qmp(NAME, "query-status").get("status") != "running":
        raise Failed("the emulator is not running")


@step("save.managedsave")
def managedsave(lab: Lab) -> None:
    lab.running(NAME)
    lab.near.virsh("managedsave", NAME, timeout=60)
    lab.near.wait_state(NAME, "shut off (saved)")


@step("save.managedsave-start")
def managedsave_start(lab: Lab) -> None:
    lab.near.virsh("start", NAME, timeout=60)
    lab.near.wait_state(NAME, "running")
    if not re.search(r"Managed save:\s+no", lab.near.virsh("dominfo", NAME)):
        raise Failed("the managed save image is still there")


@step("save.dump-memory-only")
def dump_memory_only(lab: Lab) -> None:
    lab.running(NAME)
    path = lab.images / "core.elf"
    lab.near.virsh("dump", "--memory-only", NAME, path, timeout=60)
    with path.open("rb") as file:
        if file.read(4) != b"\x7fELF":
            raise Failed("not an ELF core")
    lab.near.wait_state(NAME, "running")
    path.unlink()


@step("save.dump-memory-only-kdump")
def dump_memory_only_kdump(lab: Lab) -> None:
    lab.running(NAME)
    path = lab.images / "core.kdump"
    lab.near.virsh("dump", "--memory-only", "--format", "kdump-zlib", NAME, path, timeout=60)
    check_size(path)
    lab.near.wait_state(NAME, "running")
    path.unlink()


@step("save.dump-migrate")
def dump_migrate(lab: Lab) -> None:
    """Without --memory-only it is a migration stream in a file."""
    lab.running(NAME)
    path = lab.images / "core.mig"
    lab.near.virsh("dump", NAME, path, timeout=60)
    check_size(path)
    lab.near.wait_state(NAME, "running")
    path.unlink()


@step("save.save-running-paused")
def save_running_paused(lab: Lab) -> None:
    """Save a paused guest, restore it running."""
    lab.running(NAME)
    path = lab.images / "save2.img"
    lab.near.virsh("suspend", NAME)
    lab.near.virsh("save", NAME, path, timeout=60)
    lab.near.virsh("restore", "--running", path, timeout=60)
    lab.near.wait_state(NAME, "running")


@step("save.pmemsave")
def pmemsave(lab: Lab) -> None:
    lab.running(NAME)
    path = lab.images / "pmem.bin"
    arguments = {"val": 0xF0000, "size": 65536, "filename": str(path)}
    lab.near.qmp(NAME, "pmemsave", arguments)
    if path.stat().st_size != 65536:
        raise Failed("size of the file")


@step("save.cleanup")
def cleanup(lab: Lab) -> None:
    lab.near.gone(NAME)
