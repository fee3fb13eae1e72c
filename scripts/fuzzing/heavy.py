"""Much work for a machine at once, by kind: what `holds` measures."""

from __future__ import annotations

import json
import random
import socket
import struct
from collections.abc import Callable
from typing import Any

from fakeqemu.profile import Profile
from fuzzing.generate import CommandGenerator, is_harmless
from fuzzing.machine import Client, Machine

ARGV = (
    *("-machine", "q35", "-m", "4G", "-S", "-display", "none", "-nodefaults"),
    *("-device", "virtio-scsi-pci,id=scsi0", "-device", "VGA", "-vnc", "unix:vnc.sock"),
    *("-device", "virtio-serial-pci", "-chardev", "socket,id=ag,path=ag.sock,server=on,wait=off"),
    *("-device", "virtserialport,chardev=ag,name=org.qemu.guest_agent.0"),
    *("-device", "pcie-root-port,id=rp0,chassis=1"),
)
#: seconds that one heavy request may take on a busy host
PATIENCE = 240.0
Case = Callable[[Machine, Client], None]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    """Register a case under its name."""
    CASES[function.__name__.replace("_", "-")] = function
    return function


def _ask(client: Client, command: str, **arguments: Any) -> Any:
    members = {name.replace("_", "-"): value for name, value in arguments.items()}
    return client.ask(command, members, deadline=PATIENCE)


def _must(client: Client, command: str, **arguments: Any) -> Any:
    reply = _ask(client, command, **arguments)
    if "error" in reply:
        raise RuntimeError(f"{command}: {reply['error']['desc']}")
    return reply["return"]


def _hmp(client: Client, line: str) -> Any:
    return _ask(client, "human-monitor-command", command_line=line)


def _drain_jobs(client: Client, name: str) -> None:
    """Wait for a job's end."""
    while True:
        states = {job["id"]: job["status"] for job in _must(client, "query-jobs")}
        if states.get(name, "concluded") == "concluded":
            break
        if states[name] == "ready":
            _must(client, "job-complete", id=name)
        client.drain(0.05)
    if name in states:
        _must(client, "job-dismiss", id=name)


@case
def each_command(machine: Machine, client: Client) -> None:  # noqa: ARG001
    """Each command of the schema with random arguments."""
    profile = Profile.load("10.0")
    generator = CommandGenerator(profile.part("schema"), random.Random(1), ["virtio-rng-pci"])
    for name in generator.commands:
        for _ in range(3):
            arguments = generator.command(name)[1]
            if is_harmless(name, arguments):
                client.ask(name, arguments, deadline=20)


@case
def plain_queries(machine: Machine, client: Client) -> None:  # noqa: ARG001
    """Each command that needs no arguments, and each command of the human monitor."""
    profile = Profile.load("10.0")
    generator = CommandGenerator(profile.part("schema"), random.Random(1))
    for name in generator.commands:
        if name.startswith(("query", "x-query")):
            _ask(client, name)
    help_text = _hmp(client, "help info")["return"]
    for line in help_text.splitlines():
        _hmp(client, " ".join(line.split()[:2]))
    _hmp(client, "help")


@case
def huge_id(machine: Machine, client: Client) -> None:  # noqa: ARG001
    """A reply that repeats an id of many elements."""
    for value in (
        [0] * 300_000,
        ["é"] * 100_000,
        [{"a": 1}] * 150_000,
        {str(i): i for i in range(150_000)},
    ):
        client.send(json.dumps({"execute": "query-name", "id": value}).encode() + b"\n", PATIENCE)
        client.message(PATIENCE)


@case
def huge_arguments(machine: Machine, client: Client) -> None:  # noqa: ARG001
    """Arguments of many elements."""
    numbers = list(range(300_000))
    _ask(client, "set-numa-node", numbers=numbers)
    _ask(client, "qom-set", path="/machine", property="rtc-time", value=numbers)
    _ask(client, "query-name", **{str(i): i for i in range(150_000)})
    actions = [{"type": "blockdev-snapshot-sync", "data": {"snapshot-file": "x"}}] * 20_000
    _ask(client, "transaction", actions=actions)
    _ask(client, "device_add", driver="virtio-rng-pci", id="x", value=numbers)
    _ask(client, "object-add", qom_type="memory-backend-ram", id="x", size=1, host_nodes=numbers)
    keys = [{"type": "qcode", "data": "a"}] * 50_000
    _ask(client, "send-key", keys=keys)
    events = [
        {"type": "key", "data": {"key": {"type": "qcode", "data": "a"}, "down": True}}
    ] * 50_000
    _ask(client, "input-send-event", events=events)
    _ask(client, "announce-self", interfaces=["x"] * 200_000, initial=1, max=1, rounds=1, step=1)
    _ask(client, "guest-nothing", data="x" * 20_000_000)
    _ask(
        client,
        "chardev-add",
        id="x",
        backend={"type": "null", "data": {"logfile": "x" * 20_000_000}},
    )
    _ask(client, "add_client", protocol="é" * 1_000_000, fdname="x")


@case
def pretty_nesting(machine: Machine, client: Client) -> None:  # noqa: ARG001
    """An id as deep as the parser takes it, and many brackets that are wrong."""
    client.send(b'{"execute": "query-name", "id": ' + b"[" * 1000 + b"]" * 1000 + b"}\n")
    client.drain(1)
    client.send(b"}" * 300_000 + b"\n", PATIENCE)
    client.drain(1)
    client.send(b'{"execute": "query-name", "id": "' + b"\\u00e9" * 3_000_000 + b'"}\n', PATIENCE)
    client.message(PATIENCE)


def _nested(depth: int, driver: str = "raw") -> dict[str, Any]:
    node: dict[str, Any] = {"driver": "null-co", "node-name": "base"}
    for number in range(depth):
        node = {"driver": driver, "node-name": f"n{number}", "file": node}
    return node


@case
def nested_nodes(machine: Machine, client: Client) -> None:  # noqa: ARG001
    """Hundreds of nodes in one blockdev-add, and what is asked about them."""
    _must(client, "blockdev-add", **_nested(400))
    _must(client, "query-named-block-nodes", flat=True)
    _must(client, "query-named-block-nodes")
    _must(client, "device_add", driver="scsi-hd", bus="scsi0.0", drive="n399", id="d")
    for name in ("query-block", "query-blockstats", "x-debug-query-block-graph"):
        _must(client, name)
    _ask(client, "query-blockstats", query_nodes=True)
    for line in ("info block", "info block -v", "info block -n", "info blockstats"):
        _hmp(client, line)
    _ask(client, "blockdev-reopen", options=[_nested(400)])
    _ask(client, "block-export-add", type="nbd", id="e", node_name="n399")
    _ask(client, "blockdev-del", node_name="n399")


@case
def backing_chain(machine: Machine, client: Client) -> None:
    """A chain of hundreds of overlays."""
    base = machine.directory / "c0"
    _hmp(client, "info status")
    for number in range(480):
        options = {"driver": "file", "filename": f"c{number}", "size": 0}
        _must(client, "blockdev-create", job_id="j", options=options)
        _drain_jobs(client, "j")
        _must(client, "blockdev-add", driver="file", filename=f"c{number}", node_name=f"f{number}")
        options = {"driver": "qcow2", "file": f"f{number}", "size": 1 << 20}
        if number:
            options |= {"backing-file": f"c{number - 1}", "backing-fmt": "qcow2"}
        _must(client, "blockdev-create", job_id="j", options=options)
        _drain_jobs(client, "j")
        _must(client, "blockdev-del", node_name=f"f{number}")
    assert base.exists()
    top = {"driver": "file", "filename": "c479"}
    _must(client, "blockdev-add", driver="qcow2", node_name="top", file=top)
    _must(client, "device_add", driver="scsi-hd", bus="scsi0.0", drive="top", id="d")
    for name in ("query-named-block-nodes", "query-block", "query-blockstats"):
        _must(client, name)
    _must(client, "query-named-block-nodes", flat=True)
    _must(client, "query-blockstats", query_nodes=True)
    _must(client, "x-debug-query-block-graph")
    for line in ("info block", "info block -v", 'qemu-io top "read 0 1M"', "qemu-io top map"):
        _hmp(client, line)
    _must(client, "block-commit", job_id="c", device="top")
    _drain_jobs(client, "c")
    _must(client, "device_del", id="d")


@case
def many_nodes(machine: Machine, client: Client) -> None:  # noqa: ARG001
    """A thousand nodes beside each other."""
    for number in range(1000):
        _must(client, "blockdev-add", driver="null-co", node_name=f"n{number}")
    for name in ("query-named-block-nodes", "query-blockstats", "x-debug-query-block-graph"):
        _must(client, name)
    _must(client, "query-blockstats", query_nodes=True)
    actions = [
        {"type": "block-dirty-bitmap-add", "data": {"node": f"n{number}", "name": "b"}}
        for number in range(1000)
    ]
    _must(client, "transaction", actions=actions)
    _must(client, "query-named-block-nodes", flat=True)
    _must(client, "cont")
    _must(client, "stop")


@case
def many_jobs(machine: Machine, client: Client) -> None:  # noqa: ARG001
    """Thousands of jobs that nobody dismisses."""
    for number in range(5000):
        options = {"driver": "file", "filename": f"j{number % 10}", "size": 0}
        _must(client, "blockdev-create", job_id=f"j{number}", options=options)
    for name in ("query-jobs", "query-block-jobs"):
        _must(client, name)
    for number in range(0, 5000, 500):
        _must(client, "job-dismiss", id=f"j{number}")


@case
def device_tree(machine: Machine, client: Client) -> None:  # noqa: ARG001
    """A chain of bridges, and many devices."""
    bus = "rp0"
    for number in range(200):
        reply = _ask(
            client,
            "device_add",
            driver="pci-bridge",
            id=f"b{number}",
            bus=bus,
            chassis_nr=number % 250 + 1,
            addr="1",
        )
        if "error" in reply:
            break
        bus = f"b{number}"
    for number in range(20_000):
        name = f"s{number}"
        if number >= 250 or "error" in _ask(
            client, "device_add", driver="virtio-rng-pci", bus=f"b{number % 150}", id=name
        ):
            break
    for name in ("query-pci", "query-hotpluggable-cpus", "query-memory-devices"):
        _ask(client, name)
    for line in ("info qtree", "info pci", "info qom-tree", "info mtree", "info mtree -f"):
        _hmp(client, line)
    _ask(client, "qom-list", path="/machine/peripheral")
    _ask(client, "system_reset")
    _ask(client, "device_del", id="b0")
    _ask(client, "query-status")


@case
def many_objects(machine: Machine, client: Client) -> None:  # noqa: ARG001
    """A thousand objects."""
    for number in range(1000):
        _must(client, "object-add", qom_type="iothread", id=f"i{number}")
        _must(client, "object-add", qom_type="secret", id=f"s{number}", data="x")
    _must(client, "query-iothreads")
    _must(client, "qom-list", path="/objects")
    _hmp(client, "info qom-tree")
    _hmp(client, "info iothreads")
    _must(client, "object-del", id="i500")
    for number in range(500):
        backend = {"type": "null", "data": {}}
        _must(client, "chardev-add", id=f"c{number}", backend=backend)
    _must(client, "query-chardev")
    _must(client, "object-add", qom_type="secret", id="big", data="x" * 30_000_000)


@case
def bitmaps(machine: Machine, client: Client) -> None:  # noqa: ARG001
    """Dirty bitmaps of terabyte disks."""
    _must(client, "blockdev-add", driver="null-co", node_name="n", size=8 << 40, read_zeroes=True)
    for name in ("a", "b", "c"):
        _must(client, "block-dirty-bitmap-add", node="n", name=name, granularity=65536)
    for offset in range(200):
        _hmp(client, f'qemu-io n "write {offset * 40 << 30} 1G"')
    _hmp(client, 'qemu-io n "discard 0 1G"')
    _must(client, "query-named-block-nodes", flat=True)
    _ask(client, "x-debug-block-dirty-bitmap-sha256", node="n", name="a")
    _must(client, "block-dirty-bitmap-add", node="n", name="fine", granularity=512)
    _must(client, "block-dirty-bitmap-merge", node="n", target="b", bitmaps=["a", "c", "fine"])
    _must(client, "block-dirty-bitmap-clear", node="n", name="a")


def _raw(client: Client, name: str, size: int, **more: Any) -> None:
    options = {"driver": "file", "filename": name, "size": size, **more}
    _must(client, "blockdev-create", job_id="j", options=options)
    _drain_jobs(client, "j")


@case
def big_images(machine: Machine, client: Client) -> None:  # noqa: ARG001
    """Images of many sizes and formats."""
    _raw(client, "r", 4 << 40)
    for preallocation in ("falloc", "full"):
        _raw(client, f"p-{preallocation}", 256 << 20, preallocation=preallocation)
    for driver, more in (
        ("qcow2", {"preallocation": "metadata"}),
        ("qcow2", {"preallocation": "full"}),
        ("qcow2", {"cluster-size": 512}),
        ("qcow2", {"extended-l2": True}),
        ("vmdk", {}),
        ("vhdx", {}),
        ("vdi", {"preallocation": "metadata"}),
        ("vpc", {}),
        ("qed", {}),
        ("parallels", {}),
        ("qcow", {}),
        ("luks", {"key-secret": "sec0"}),
    ):
        _ask(client, "object-add", qom_type="secret", id="sec0", data="x")
        _raw(client, "f", 0)
        _must(client, "blockdev-add", driver="file", filename="f", node_name="f")
        size = 256 << 20 if more.get("preallocation") == "full" else 64 << 30
        options = {"driver": driver, "file": "f", "size": size, **more}
        _ask(client, "blockdev-create", job_id="j", options=options)
        _drain_jobs(client, "j")
        if "error" not in _ask(client, "blockdev-add", driver=driver, file="f", node_name="t"):
            for line in (
                "write 0 64M",
                "write 1G 64M",
                "read 0 256M",
                "write -z 2G 4G",
                "discard 0 1G",
                "map",
            ):
                _hmp(client, f'qemu-io t "{line}"')
            _ask(client, "block_resize", node_name="t", size=128 << 30)
        _ask(client, "blockdev-del", node_name="t")
        _must(client, "blockdev-del", node_name="f")


@case
def big_io(machine: Machine, client: Client) -> None:  # noqa: ARG001
    """Gigabytes through qemu-io."""
    _must(client, "blockdev-add", driver="null-co", node_name="n", size=1 << 40)
    _raw(client, "r", 1 << 40)
    _must(client, "blockdev-add", driver="file", filename="r", node_name="r")
    for node in ("n", "r"):
        for line in (
            "read 0 1G",
            "read -v 0 4M",
            "read -P 0 0 1G",
            "write 0 256M",
            "write -z 0 1G",
            "aio_read 0 1G",
            "aio_write 0 256M",
            "map",
            "discard 0 1G",
            "flush",
            "readv 0 64M 64M",
            "writev 0 64M 64M",
        ):
            _hmp(client, f'qemu-io {node} "{line}"')


@case
def sparse_jobs(machine: Machine, client: Client) -> None:  # noqa: ARG001
    """Jobs over terabytes of nothing."""
    _raw(client, "a", 4 << 40)
    _raw(client, "b", 4 << 40)
    _must(client, "blockdev-add", driver="file", filename="a", node_name="a")
    _must(client, "blockdev-add", driver="file", filename="b", node_name="b")
    for offset in range(0, 4096, 64):
        _hmp(client, f'qemu-io a "write {offset}G 64k"')
    for job in ("mirror", "backup"):
        _must(client, f"blockdev-{job}", job_id="m", device="a", target="b", sync="full", speed=0)
        for _ in range(40):
            client.drain(0.05)
            _must(client, "query-block-jobs")
        _ask(client, "block-job-cancel", device="m", force=True)
        while _must(client, "query-block-jobs"):
            client.drain(0.05)


@case
def nbd(machine: Machine, client: Client) -> None:
    """Many requests in one piece, large reads and many extents."""
    _must(client, "blockdev-add", driver="null-co", node_name="n", size=1 << 40, read_zeroes=True)
    _must(client, "block-dirty-bitmap-add", node="n", name="b")
    for offset in range(0, 4000):
        if offset % 20 == 0:
            _hmp(client, f'qemu-io n "write {offset * 128}k 64k"')
    address = {"type": "unix", "data": {"path": "nbd.sock"}}
    _must(client, "nbd-server-start", addr=address)
    _must(
        client,
        "block-export-add",
        type="nbd",
        id="e",
        node_name="n",
        name="n",
        writable=True,
        bitmaps=["b"],
    )
    with machine.connect("nbd.sock") as server:
        server.settimeout(PATIENCE)
        stream = server.makefile("rb")
        stream.read(18)
        server.sendall(struct.pack(">I", 3))
        server.sendall(b"IHAVEOPT" + struct.pack(">II", 1, 1) + b"n")
        stream.read(10)
        request = struct.Struct(">IHHQQI")
        server.sendall(
            b"".join(request.pack(0x25609513, 0, 0, i, i * 4096, 512) for i in range(2300))
        )
        for _ in range(2300):
            stream.read(16 + 512)
        server.sendall(b"".join(request.pack(0x25609513, 0, 0, i, 0, 32 << 20) for i in range(8)))
        for _ in range(8):
            stream.read(16 + (32 << 20))
        server.sendall(b"".join(request.pack(0x25609513, 0, 4, i, 0, 1 << 30) for i in range(2000)))
        for _ in range(2000):
            stream.read(16)
        server.sendall(request.pack(0x25609513, 0, 1, 1, 0, 32 << 20) + bytes(32 << 20))
        stream.read(16)


@case
def agent(machine: Machine, client: Client) -> None:
    """Bursts to the guest agent."""
    with machine.connect("ag.sock") as sock:
        sock.settimeout(5)
        _ask(client, "cont")
        try:
            sock.sendall(b'{"execute": "guest-ping"}\n' * 2000)
            sock.sendall(b'{"execute": "guest-info"}\n' * 200)
            while sock.recv(1 << 20):
                pass
        except TimeoutError:
            return


@case
def guest_memory(machine: Machine, client: Client) -> None:  # noqa: ARG001
    """Dumps and saves of gigabytes."""
    _ask(client, "memsave", val=0, size=1 << 30, filename="m")
    _ask(client, "pmemsave", val=0, size=2 << 30, filename="/dev/null")
    for form in ("elf", "kdump-zlib", "win-dmp"):
        _ask(
            client,
            "dump-guest-memory",
            paging=False,
            protocol=f"file:d-{form}",
            detach=True,
            format=form,
        )
        for _ in range(400):
            if (_ask(client, "query-dump").get("return") or {}).get("status") != "active":
                break
            client.drain(0.02)
    _ask(client, "dump-guest-memory", paging=False, protocol="file:d2")
    _hmp(client, "x /20000xb 0")
    _hmp(client, "xp /200000xb 0")
    _hmp(client, "sum 0 100000000")
    _hmp(client, "stop")
    _hmp(client, "savevm a")


@case
def screens(machine: Machine, client: Client) -> None:
    """Pictures of a screen, and several who watch it."""
    _must(client, "cont")
    for form in ("ppm", "png"):
        _ask(client, "screendump", filename=f"s.{form}", format=form)
    watchers = []
    for _ in range(4):
        sock = machine.connect("vnc.sock")
        sock.settimeout(PATIENCE)
        stream = sock.makefile("rb")
        stream.read(12)
        sock.sendall(b"RFB 003.008\n")
        stream.read(stream.read(1)[0])
        sock.sendall(b"\x01")
        stream.read(4)
        sock.sendall(b"\x01")
        head = stream.read(24)
        width, height = struct.unpack(">HH", head[:4])
        stream.read(struct.unpack(">I", head[20:])[0])
        watchers.append((sock, width, height))
    for encodings in ((0,), (16, 0), (7, 0), (5, 0), (6, 0)):
        for sock, width, height in watchers:
            sock.sendall(struct.pack(f">BxH{len(encodings)}i", 2, len(encodings), *encodings))
            sock.sendall(struct.pack(">BBHHHH", 3, 0, 0, 0, width, height) * 4)
        for sock, _, _ in watchers:
            _some(sock)
    for sock, width, height in watchers:
        sock.sendall(struct.pack(">BBHHHH", 3, 0, 0, 0, width, height) * 6000)
    for sock, _, _ in watchers:
        _some(sock)
        sock.close()


def _some(sock: socket.socket) -> None:
    sock.settimeout(1)
    try:
        for _ in range(200):
            sock.recv(1 << 20)
    except TimeoutError:
        pass


@case
def migration(machine: Machine, client: Client) -> None:  # noqa: ARG001
    """To a file, over a socket with many channels, and snapshots."""
    _must(client, "blockdev-add", driver="null-co", node_name="n", size=1 << 40)
    _must(client, "block-dirty-bitmap-add", node="n", name="b", granularity=512)
    for offset in range(0, 2000):
        _hmp(client, f'qemu-io n "write {offset}M 64k"') if offset % 10 == 0 else None
    _must(
        client,
        "migrate-set-capabilities",
        capabilities=[{"capability": "dirty-bitmaps", "state": True}],
    )
    _must(client, "cont")
    _must(client, "migrate", uri="file:mig")
    for _ in range(400):
        state = _must(client, "query-migrate").get("status")
        if state in ("completed", "failed", "cancelled"):
            break
        client.drain(0.05)
    _ask(client, "query-migrate-parameters")
    _hmp(client, "info migrate -a")
