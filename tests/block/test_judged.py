"""What is judged as QEMU judges it before it is refused as not modelled, and in what order."""

import pytest

NODES = [
    *("-blockdev", "null-co,node-name=n0,size=1048576,read-zeroes=on"),
    *("-blockdev", "null-co,node-name=r0,size=1048576,read-zeroes=on"),
    *("-blockdev", "null-co,node-name=d0,size=1048576", "-device", "virtio-blk-pci,drive=d0"),
    *("-blockdev", "null-co,node-name=z0,size=1048576"),
]


@pytest.fixture(params=["7.2", "10.0"])
def machine(request, start):
    return start("-machine", "q35", *NODES, profile=request.param)


def exported(machine, type, node="r0", **options):
    given = {"type": type, "id": "e", "node-name": node, **options}
    return machine.error("block-export-add", **given)[1]


def test_exports_to_other_places(machine):
    missing = "Cannot find device='' nor node-name=''"
    assert exported(machine, "fuse", "", mountpoint="x") == missing
    assert exported(machine, "vduse-blk", name="x", **{"num-queues": 0}) == (
        "num-queues must be greater than 0"
    )
    assert exported(machine, "vduse-blk", name="x", **{"queue-size": 3}) == "queue-size is invalid"
    inet = {"type": "inet", "host": "h", "port": "1"}
    assert exported(machine, "vhost-user-blk", addr=inet) == (
        "Only socket address types 'unix' and 'fd' are supported"
    )
    odd = exported(machine, "vhost-user-blk", addr=inet, **{"logical-block-size": 513})
    newer = "parameter logical-block-size must be a power of 2 between 512 and 2097152"
    older = "Property e.logical-block-size doesn't take value '513', it's not a power of 2"
    assert odd in (newer, older)
    unix = {"type": "unix", "path": "x"}
    refused = "fakeqemu does not model 'block export vhost-user-blk'"
    assert exported(machine, "vhost-user-blk", addr=unix) == refused
    # the node is let go of
    machine.ask("blockdev-del", **{"node-name": "r0"})


def test_images_of_other_programs(machine):
    def opened(driver, **options):
        given = {"driver": driver, "node-name": "f0", "file": "n0", **options}
        return machine.error("blockdev-add", **given)[1]

    assert opened("vpc") == "invalid VPC image"
    assert opened("bochs") == "Image is read-only"
    assert opened("bochs", **{"auto-read-only": True}) == "Image not in Bochs format"
    assert opened("cloop", **{"read-only": True}) == "block_size cannot be zero"
    assert opened("dmg", **{"read-only": True}) == "Could not locate UDIF trailer in dmg file"
    # a text is a node's name there, whatever it looks like
    assert opened("raw", file="nbd:unix:x") == (
        "Cannot find device='nbd:unix:x' nor node-name='nbd:unix:x'"
    )
    sharing = {"force-share": True, "read-only": False}
    assert opened("raw", file="x", **sharing).startswith("Cannot find")
    assert opened("raw", **sharing) == "force-share=on can only be used with read-only images"


def test_making_one_fails_when_its_file_is_opened(machine):
    def made(**options):
        machine.ask("blockdev-create", **{"job-id": "j"}, options=options)
        (job,) = machine.ask("query-jobs")
        machine.ask("job-dismiss", id="j")
        return job["error"]

    assert made(driver="vpc", file="x", size=512) == "Cannot find device='x' nor node-name='x'"
    assert made(driver="qed", file="n0", size=512) == (
        "fakeqemu does not model 'blockdev-create of qed'"
    )
    amended = {"job-id": "j", "node-name": "n0", "options": {"driver": "iscsi"}}
    unknown = "Block driver 'iscsi' not found or not supported"
    assert machine.error("x-blockdev-amend", **amended)[1] == unknown


def test_who_walks_all_nodes_begins_behind_the_last_backends_since_10_0(start):
    def inactive(*options):
        machine = start("-machine", "q35", *options, profile="10.0")
        machine.ask("blockdev-set-active", active=False)
        nodes = machine.ask("query-named-block-nodes", flat=True)
        return [node["node-name"] for node in reversed(nodes) if not node["active"]]

    assert inactive(*NODES) == ["d0", "z0"]
    assert inactive(*NODES[:4]) == ["n0", "r0"]


def test_a_threshold_is_shown_with_a_sign(machine):
    machine.ask("block-set-write-threshold", **{"node-name": "n0", "write-threshold": 2**64 - 1})
    shown = machine.ask("query-named-block-nodes", flat=True)
    assert -1 in [node["write_threshold"] for node in shown]
