"""Xen's commands, which a machine without Xen takes too."""

import pytest

from fakeqemu.model.null_host import NullHost


class _WithoutFolder(NullHost):
    """A host on which nothing can be made or read in the folder `nowhere`."""

    def create_output(self, path, mode=0o666, *, fdsets=True):
        if path.startswith("nowhere/"):
            raise FileNotFoundError(2, "No such file or directory")
        return super().create_output(path, mode, fdsets=fdsets)

    def file_error(self, path):
        return "No such file or directory" if path.startswith("nowhere/") else None


def test_device_states_go_into_a_file_and_the_guest_runs_on(start):
    machine = start("-machine", "none")
    machine.ask("xen-save-devices-state", filename="state")
    assert machine.ask("query-status")["status"] == "running"
    file = machine.vm.host.files.open("state", writable=False)
    data = file.read(0, file.size())
    # magic and version, the first full section at once, the end without a description
    assert data[:9] == b"QEVM\0\0\0\x03\x04"
    assert b"globalstate" in data
    assert data.endswith(b"\0")


@pytest.mark.parametrize(
    ("profile", "create", "read"),
    [
        ("7.2", "Unable to open nowhere/x: ", "Unable to open nowhere/x: "),
        ("10.0", "Could not create 'nowhere/x': ", "Could not open 'nowhere/x': "),
    ],
)
def test_refusals_come_in_qemus_order(start, profile, create, read):
    machine = start("-machine", "none", profile=profile, host=_WithoutFolder())
    why = "No such file or directory"
    save, load = "xen-save-devices-state", "xen-load-devices-state"
    assert machine.error(save, filename="nowhere/x")[1] == create + why
    assert machine.ask("query-status")["status"] == "running"
    running = "Cannot update device state while vm is running"
    assert machine.error(load, filename="nowhere/x")[1] == running
    machine.ask("stop")
    assert machine.error(load, filename="nowhere/x")[1] == read + why
    assert "does not model" in machine.error(load, filename="state")[1]


def test_a_stopped_guest_gives_up_its_disks(start):
    blockdev = ("-blockdev", "null-co,node-name=n0", "-device", "virtio-blk-pci,drive=n0")
    machine = start("-machine", "q35", *blockdev, profile="10.0")
    machine.ask("stop")

    def active():
        return machine.ask("query-named-block-nodes")[0]["active"]

    machine.ask("xen-save-devices-state", filename="a", live=False)
    assert active()
    machine.ask("xen-save-devices-state", filename="a")
    assert not active()


def test_nobody_replicates(start):
    machine = start("-machine", "none")
    on = {"enable": True, "primary": True}
    machine.ask("xen-set-replication", **on)
    assert machine.error("xen-set-replication", **on, failover=False)[1] == (
        "Parameter 'failover' is only for stopping replication"
    )
    machine.ask("xen-colo-do-checkpoint")
