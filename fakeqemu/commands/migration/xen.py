"""What Xen's toolstack asks for: device states in a file, replication, checkpoints.

A machine without Xen takes these commands too. No block driver here replicates, so there is nobody
whose replication could be started, checkpointed or stopped.

See migration/savevm.c: qmp_xen_save_devices_state(), qemu_save_device_state() and
qmp_xen_load_devices_state(); migration/colo.c: qmp_xen_set_replication() and
qmp_xen_colo_do_checkpoint().
"""

from __future__ import annotations

from fakeqemu.commands.migration.migration import migration_of
from fakeqemu.commands.registry import command
from fakeqemu.dataclass import replace
from fakeqemu.formats.migration_stream.constants import EOF
from fakeqemu.formats.migration_stream.writer import StreamWriter
from fakeqemu.migration import vmstate
from fakeqemu.model.machine import Machine
from fakeqemu.qapi.errors import NotModelledError, QapiError


@command("xen-save-devices-state")
def xen_save_devices_state(vm: Machine, filename: str, live: bool = True) -> None:
    """Write the devices' states without RAM; `live`: give up the disks of a stopped guest."""
    traits = vm.profile.traits
    was_running = vm.runstate.running
    vm.lifecycle.vm_stop("save-vm")
    try:
        try:
            output = vm.host.create_output(filename, 0o660)
        except OSError as error:
            text = traits.channel_file_create_text.format(filename, error.strerror)
            raise QapiError(text) from None
        try:
            output.write([_device_states(vm)])
        except OSError:
            raise QapiError("saving Xen device state failed") from None
        finally:
            output.close()
        if live and not was_running:
            vm.inactivate_disks()
    finally:
        if was_running:
            vm.lifecycle.vm_start()


def _device_states(vm: Machine) -> bytes:
    """A stream of device sections alone, without configuration and description."""
    source = replace(vmstate.source(vm, migration_of(vm)), configuration=False)
    writer = StreamWriter(source, vm.profile.traits)
    return writer.header() + writer.device_states("running", clock=vm.clock.now()) + bytes([EOF])


@command("xen-load-devices-state")
def xen_load_devices_state(vm: Machine, filename: str) -> None:
    """Refused: QEMU dies of an assertion once it has read the file, whatever is in it."""
    if vm.runstate.running:
        raise QapiError("Cannot update device state while vm is running")
    if (why := vm.host.file_error(filename)) is not None:
        raise QapiError(vm.profile.traits.channel_file_open_text.format(filename, why))
    raise NotModelledError("xen-load-devices-state")


@command("xen-set-replication")
def xen_set_replication(
    vm: Machine,  # noqa: ARG001
    enable: bool,
    primary: bool,  # noqa: ARG001
    failover: bool | None = None,
) -> None:
    """Start or stop the replication of all nodes that replicate: none."""
    if enable and failover is not None:
        raise QapiError("Parameter 'failover' is only for stopping replication")


@command("xen-colo-do-checkpoint")
def xen_colo_do_checkpoint(vm: Machine) -> None:
    """A checkpoint of all nodes that replicate: none."""
