"""Nodes of driver nbd on exports of our own, over streams in memory, and exports' life."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fakeqemu.clock import SECOND
from fakeqemu.commands.registry import Deferred
from fakeqemu.model.block.drivers import base
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qmp.dispatch import dispatcher_of

MB = 1 << 20
SERVER = {"type": "unix", "path": "/s"}


class End:
    """One end of a connection. What it is sent lies there until it is delivered."""

    def __init__(self) -> None:
        self.on_data: Callable[[bytes], None] | None = None
        self.on_close: Callable[[str | None], None] | None = None
        self.sent = bytearray()
        self.other: End
        self.closed = False

    def write(self, data: bytes) -> None:
        self.other.sent += data

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            if self.other.on_close is not None and not self.other.closed:
                self.other.closed = True
                self.other.on_close(None)

    def deliver(self) -> bool:
        """Hand over what was sent; False if there is nothing."""
        data = bytes(self.sent)
        self.sent.clear()
        if data and self.on_data is not None and not self.closed:
            self.on_data(data)
        return bool(data)

    def wait(self, seconds: float, done: Callable[[], bool]) -> bool:
        while not done():
            self.other.deliver()
            if not self.deliver():
                return False
        return True


class Net:
    """A machine whose host connects to its own NBD server."""

    def __init__(self, machine: Any) -> None:
        self.machine = machine
        self.accept: Callable[[Any], None] | None = None
        self.ends: list[End] = []
        host = machine.vm.host
        listening = host.listen

        def listen(address: Any, accept: Callable[[Any], None]) -> Any:
            self.accept = accept
            return listening(address, accept)

        host.listen = listen
        host.connect, host.connect_now = self._connect, self._connect_now

    def _connect_now(self, address: Any, seconds: float, *, retry_for: float = 0.0) -> End:
        if self.accept is None:
            raise QapiError("Failed to connect to '/s': Connection refused")
        near, far = End(), End()
        near.other, far.other = far, near
        self.ends.append(near)
        self.accept(far)
        return near

    def _connect(self, address: Any, done: Callable[[Any, str], None]) -> None:
        try:
            done(self._connect_now(address, 0.0), "")
        except QapiError as error:
            done(None, error.desc)

    def run(self) -> None:
        """Deliver, and let the machine work, until nothing is left to do."""
        while self.deliver():
            pass

    def deliver(self) -> bool:
        """Deliver all that lies there once; False if nothing did."""
        moved = [each for end in list(self.ends) for each in (end.other, end) if each.deliver()]
        self.machine.clock.advance(0)
        return bool(moved)


@pytest.fixture
def net(machine: Any) -> Net:
    found = Net(machine)
    machine.image("a", 2 * MB)
    address = {"type": "unix", "data": {"path": "/s"}}
    machine.ask("nbd-server-start", addr=address)
    return found


def export(machine: Any, **arguments: Any) -> None:
    machine.ask("block-export-add", type="nbd", **arguments)


def add(net: Net, **options: Any) -> Deferred:
    """blockdev-add of node n on an export, once the server has answered."""
    members = {name.replace("_", "-"): value for name, value in options.items()}
    answer = dispatcher_of(net.machine.vm).execute(
        "blockdev-add", {"driver": "nbd", "node-name": "n", "server": SERVER, **members}
    )
    assert isinstance(answer, Deferred)
    net.run()
    return answer


def node(machine: Any, name: str) -> Any:
    return machine.vm.block.graph.find(name)


def test_a_node_reads_and_writes_an_export(net: Net, machine: Any) -> None:
    export(machine, id="e", node_name="a", writable=True, name="x")
    assert add(net, export="x").error is None
    n, a = node(machine, "n"), node(machine, "a")
    assert base.length(n) == 2 * MB
    base.write(n, MB, b"data")
    assert base.read(a, MB - 1, 6) == base.read(n, MB - 1, 6) == b"\0data\0"
    base.zero(n, MB, 65536)
    assert base.read(a, MB, 4) == bytes(4)
    assert {each.kind for each in base.status(n, 0, 2 * MB)} == {"zero"}
    base.write(n, 0, b"\1" * 65536)
    assert next(each.kind for each in base.status(n, 0, 2 * MB)) == "data"
    assert {"type": "block-node", "node-name": "n"} in machine.ask("query-yank")


def test_what_is_discarded_is_discarded_there(net: Net, machine: Any) -> None:
    machine.ask("blockdev-reopen", options=[
        {"driver": "qcow2", "node-name": "a", "file": "a-file", "discard": "unmap", "backing": None}
    ])  # fmt: skip
    base.write(node(machine, "a"), 0, b"\1" * 65536)
    export(machine, id="e", node_name="a", writable=True, name="x")
    add(net, export="x", discard="unmap")
    base.discard(node(machine, "n"), 0, 65536)
    assert base.read(node(machine, "a"), 0, 1) == b"\0"


def test_an_export_that_is_not_there(net: Net) -> None:
    answer = add(net, export="x")
    assert answer.error is not None
    assert answer.error.desc == "Requested export not available"
    assert answer.error.hint == "server reported: export 'x' not present"
    assert net.machine.vm.block.graph.find("n") is None


def test_a_server_that_is_not_there(machine: Any) -> None:
    answer = add(Net(machine))
    assert answer.error is not None
    assert answer.error.desc == "Failed to connect to '/s': Connection refused"


@pytest.mark.parametrize(
    ("node", "text"),
    [
        ({"driver": "nbd", "node-name": "n ", "server": SERVER}, "Invalid node-name: 'n '"),
        (
            {"driver": "host_device", "filename": "nbd+unix:///?socket=/s"},
            "Could not open 'nbd+unix:///?socket=/s': No such file or directory",
        ),
        ({"driver": "raw", "file": "nbd:unix:/s"}, "Cannot find device='nbd:unix:/s' nor"),
    ],
)
def test_nobody_connects_for_a_node_that_is_refused(machine: Any, node: Any, text: str) -> None:
    net = Net(machine)
    net.accept = lambda _end: pytest.fail("somebody has connected")
    assert machine.desc("blockdev-add", **{"node-name": "n", **node}).startswith(text)


def test_the_first_node_that_cannot_be_opened_is_told_of(machine: Any) -> None:
    Net(machine)
    children = [{"driver": "raw", "file": "nosuch"}, {"driver": "nbd", "server": SERVER}]
    quorum = {"driver": "quorum", "node-name": "q", "vote-threshold": 1, "children": children}
    answer = dispatcher_of(machine.vm).execute("blockdev-add", quorum)
    assert isinstance(answer, Deferred)
    assert answer.error is not None
    assert answer.error.desc == "Cannot find device='nosuch' nor node-name='nosuch'"


def test_a_server_that_comes_in_time(machine: Any) -> None:
    net = Net(machine)
    machine.image("a", MB)
    answer = add(net, export="a", open_timeout=10)
    assert not answer.done
    machine.ask("nbd-server-start", addr={"type": "unix", "data": {"path": "/s"}}, work=False)
    machine.ask("block-export-add", type="nbd", id="e", node_name="a", writable=True, work=False)
    machine.clock.advance(8 * SECOND)
    net.run()
    assert answer.done
    assert answer.error is None


def test_a_read_only_export(net: Net, machine: Any) -> None:
    export(machine, id="e", node_name="a", name="x")
    answer = add(net, export="x")
    assert answer.error is not None
    assert answer.error.desc == "Could not open image: Permission denied"
    assert add(net, export="x", auto_read_only=True).error is None
    assert node(machine, "n").read_only


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "NBD server address missing"),
        ({"path": "/s", "host": "h"}, "path and host may not be used at the same time"),
        ({"path": "/s", "port": "1"}, "port may not be used without host"),
        ({"path": "/s", "server.type": "unix"},
         "Cannot use 'server' and path/host/port at the same time"),
        ({"path": "/s", "open-timeout": "x"}, "Parameter 'open-timeout' expects a number"),
        ({"filename": "nbd:"}, "NBD server address missing"),
        ({"filename": "nbd://"}, "No valid URL specified"),
        ({"filename": "nbd+unix:///x"}, "No valid URL specified"),
        ({"filename": "nbd+unix://h/x?socket=/s"}, "No valid URL specified"),
        ({"filename": "nbd:unix:/s", "export": "x"},
         "Option 'export' cannot be used with a file name"),
    ],
)  # fmt: skip
def test_servers_that_are_not_named_well(
    net: Net, machine: Any, options: dict[str, str], text: str
) -> None:
    if "filename" in options:
        rest = "".join(f",file.{k}={v}" for k, v in options.items() if k != "filename")
        words = f"file={options['filename']}{rest}"
    else:
        words = "".join(f",file.{k}={v}" for k, v in options.items())
        words = f"file.driver=nbd{words}"
    assert net.accept is not None
    said = machine.hmp(f"drive_add 0 if=none,id=d,format=raw,{words}")
    assert text in said


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("file=nbd:unix:/s:exportname=x,format=raw", "nbd+unix:///x?socket=/s"),
        ("file=nbd+unix:///x?socket=/s,format=raw", "nbd+unix:///x?socket=/s"),
        ("file=nbd+unix:///x?socket=/s,driver=nbd", "nbd+unix:///x?socket=/s"),
        ("file=nbd:h:1:exportname=x,format=raw", "nbd://h:1/x"),
        ("file=nbd://h/x,format=raw", "nbd://h:10809/x"),
    ],
)
def test_file_names_of_exports(net: Net, machine: Any, name: str, shown: str) -> None:
    export(machine, id="e", node_name="a", writable=True, name="x")
    machine.hmp(f"drive_add 0 if=none,id=d,{name}")
    (found,) = [each for each in machine.ask("query-block") if each["device"] == "d"]
    assert found["inserted"]["file"] == shown
    assert net.ends


# -- jobs and exports, which do not hold the others up -------------------------------------------


def test_a_mirror_of_an_export_waits_for_it_and_nobody_else_does(net: Net, machine: Any) -> None:
    base.write(node(machine, "a"), 4096, b"abc")
    base.write(node(machine, "a"), MB, b"def")
    export(machine, id="e", node_name="a", writable=True, name="x")
    add(net, export="x")
    machine.image("t", 2 * MB)
    machine.ask("blockdev-mirror", job_id="j", device="n", target="t", sync="full", work=False)
    machine.clock.advance(SECOND)
    (job,) = machine.ask("query-jobs", work=False)
    assert (job["status"], job["current-progress"]) == ("running", 0)
    net.run()
    (job,) = machine.ask("query-jobs", work=False)
    assert job["status"] == "ready"
    machine.ask("job-complete", id="j")
    t = node(machine, "t")
    assert base.read(t, 4096, 3) + base.read(t, MB, 3) == b"abcdef"
    assert [each.kind for each in base.status(t, 0, 65536)] == ["data"]


def test_a_backup_into_an_export_that_refuses(net: Net, machine: Any) -> None:
    machine.add("blkdebug", "bad", image="a", inject_error=[{"event": "pwritev", "errno": 28}])
    export(machine, id="e", node_name="bad", writable=True, name="x")
    add(net, export="x")
    machine.image("s", 2 * MB)
    base.write(node(machine, "s"), 0, b"abc")
    machine.events.clear()
    machine.ask("blockdev-backup", job_id="j", device="s", target="n", sync="top", work=False)
    for _ in range(10):
        machine.clock.advance(SECOND)
        net.run()
    ended = [data for name, data in machine.events if name == "BLOCK_JOB_COMPLETED"]
    assert ended[0]["error"] == "No space left on device"


def test_an_export_of_an_export(net: Net, machine: Any) -> None:
    base.write(node(machine, "a"), 4096, b"abc")
    export(machine, id="e", node_name="a", writable=True, name="x")
    add(net, export="x")
    export(machine, id="f", node_name="n", writable=True, name="y")
    answer = dispatcher_of(machine.vm).execute(
        "blockdev-add", {"driver": "nbd", "node-name": "m", "server": SERVER, "export": "y"}
    )
    net.run()
    assert answer.error is None
    machine.image("t", 2 * MB)
    machine.ask("blockdev-mirror", job_id="j", device="m", target="t", sync="full", work=False)
    for _ in range(5):
        machine.clock.advance(SECOND)
        net.run()
    machine.ask("job-complete", id="j")
    assert base.read(node(machine, "t"), 4096, 3) == b"abc"


# -- connections that are lost -------------------------------------------------------------------


def test_requests_fail_while_there_is_no_connection(net: Net, machine: Any) -> None:
    export(machine, id="e", node_name="a", writable=True, name="x")
    add(net, export="x")
    n = node(machine, "n")
    accept, net.accept = net.accept, None
    net.ends[-1].other.close()
    with pytest.raises(QapiError, match="Input/output error"):
        base.read(n, 0, 512)
    net.accept = accept
    assert base.read(n, 0, 512) == bytes(512)


def test_requests_wait_for_the_connection_to_come_back(net: Net, machine: Any) -> None:
    base.write(node(machine, "a"), 0, b"abc")
    export(machine, id="e", node_name="a", writable=True, name="x")
    add(net, export="x", reconnect_delay=5)
    machine.image("t", 2 * MB)
    accept, net.accept = net.accept, None
    net.ends[-1].other.close()
    machine.ask("blockdev-mirror", job_id="j", device="n", target="t", sync="full", work=False)
    machine.clock.advance(2 * SECOND)
    (job,) = machine.ask("query-jobs", work=False)
    assert job["status"] == "running"
    net.accept = accept
    machine.clock.advance(2 * SECOND)
    net.run()
    (job,) = machine.ask("query-jobs", work=False)
    assert job["status"] == "ready"


def test_requests_wait_no_longer_than_they_are_to(net: Net, machine: Any) -> None:
    export(machine, id="e", node_name="a", writable=True, name="x")
    add(net, export="x", reconnect_delay=5)
    machine.image("t", 2 * MB)
    net.accept = None
    net.ends[-1].other.close()
    machine.events.clear()
    machine.ask("blockdev-mirror", job_id="j", device="n", target="t", sync="full", work=False)
    machine.clock.advance(6 * SECOND)
    assert [data.get("error") for name, data in machine.events if name == "BLOCK_JOB_COMPLETED"]


def test_a_yanked_node_connects_no_more(net: Net, machine: Any) -> None:
    export(machine, id="e", node_name="a", writable=True, name="x")
    add(net, export="x")
    machine.ask("yank", instances=[{"type": "block-node", "node-name": "n"}])
    with pytest.raises(QapiError, match="Input/output error"):
        base.read(node(machine, "n"), 0, 512)
    machine.ask("blockdev-del", node_name="n")
    assert not [each for each in machine.ask("query-yank") if each["type"] == "block-node"]


# -- throttling ----------------------------------------------------------------------------------


def test_throttle_nodes_hold_clients_back(start: Any) -> None:
    machine = start("-object", f"throttle-group,id=g,x-bps-read={MB}")
    net = Net(machine)
    machine.image("a", 2 * MB)
    machine.add("throttle", "slow", throttle_group="g", file="a")
    machine.ask("nbd-server-start", addr={"type": "unix", "data": {"path": "/s"}})
    export(machine, id="e", node_name="slow", name="x")
    add(net, export="x", read_only=True)
    found: list[Any] = []
    made = node(machine, "n").driver.connection
    for at in (0, MB):
        made.ask(0, at, MB, b"", found.append)
    net.run()
    assert len(found) == 1, "the bucket was empty, and so one request passes"
    machine.clock.advance(SECOND // 2)
    net.run()
    assert len(found) == 1
    machine.clock.advance(SECOND)
    net.run()
    assert len(found) == 2


# -- exports' life -------------------------------------------------------------------------------


def test_exports_come_and_go(machine: Any) -> None:
    machine.add("null-co", "a", size=MB)
    text = machine.desc("nbd-server-add", device="a")
    assert text == "NBD server not running"
    machine.ask("nbd-server-start", addr={"type": "unix", "data": {"path": "/s"}})
    export(machine, id="e", node_name="a")
    machine.add("null-co", "n", size=MB)
    text = machine.desc("block-export-add", type="nbd", id="f", node_name="n", name="a")
    assert text == "NBD server already has export named 'a'"
    assert machine.desc("blockdev-del", node_name="a") == "Node a is in use"
    machine.ask("nbd-server-stop")
    assert machine.events[-1] == ("BLOCK_EXPORT_DELETED", {"id": "e"})
    machine.ask("blockdev-del", node_name="a")
