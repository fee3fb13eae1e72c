"""The human monitor's `qemu-io`: read and write as a guest would, to see what follows.

See block/monitor/block-hmp-cmds.c: hmp_qemu_io().
"""

from __future__ import annotations

from fakeqemu.commands.hmp.registry import hmp
from fakeqemu.model.block.backends.backend import Backend
from fakeqemu.model.block.qemu_io import run
from fakeqemu.model.machine import Machine
from fakeqemu.qapi.errors import NotModelledError, QapiError


@hmp("qemu-io")
def qemu_io(vm: Machine, device: str, command: str, qdev: bool = False) -> str:
    """Run one line of qemu-io on a device, or on a node that gets a backend for it."""
    backends = vm.block.backends
    if qdev:
        return _run(vm, backends.get(None, device), command)
    if device in backends.named:
        return _run(vm, backends.named[device], command)
    node = vm.block.graph.find(device)
    if node is None:
        raise QapiError(f"Cannot find device='' nor node-name='{device}'")
    backend = backends.create()
    try:
        backend.insert(node)
        return _run(vm, backend, command)
    finally:
        backends.drop(backend)


def _run(vm: Machine, backend: Backend, command: str) -> str:
    try:
        return run(vm.block, backend, command)
    except NotModelledError:
        raise
    except QapiError as error:
        return f"{error.desc}\n"
