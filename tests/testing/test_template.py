"""Copies of a machine that is prepared once: what they have of it, and that they share nothing."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.testing import (
    FakeQemu,
    GroupClock,
    NotCopyableError,
    StrictnessError,
    SyncFakeQemu,
    Template,
    UnknownNameError,
)

Q35 = ("-machine", "q35", "-nodefaults", "-display", "none", "-m", "256")
PORTED = (*Q35, "-device", "pcie-root-port,id=rp,chassis=1", "-device", "virtio-balloon-pci")


def plain(vm: SyncFakeQemu) -> None:
    """Everything of which there is one kind at least."""
    vm.qmp("blockdev-add", {"driver": "null-co", "node-name": "n0", "size": 1 << 20})
    vm.qmp("object-add", {"qom-type": "iothread", "id": "io0"})
    vm.qmp("device_add", {"driver": "virtio-rng-pci", "id": "rng", "bus": "rp"})
    vm.qmp("stop")


class TestWhatACopyHas:
    async def test_the_state_as_it_was_prepared(self) -> None:
        base = Template(*PORTED, profile="10.0", prepare=plain)
        async with base() as vm:
            assert (await vm.qmp("query-status"))["status"] == "paused"
            assert [n["node-name"] for n in await vm.qmp("query-named-block-nodes")] == ["n0"]
            assert [t["id"] for t in await vm.qmp("query-iothreads")] == ["io0"]
            names = [each["name"] for each in await vm.qmp("qom-list", path="/machine/peripheral")]
            assert "rng" in names
            # the journal goes on where the prepared machine's ended
            assert [c.name for c in vm.journal.commands()][:4] == [
                "blockdev-add", "object-add", "device_add", "stop"
            ]  # fmt: skip
            assert [event.name for event in vm.events] == ["RESUME", "STOP"]

    async def test_answers_are_those_of_a_machine_that_booted_itself(self) -> None:
        queries = [
            ("query-chardev", {}), ("query-pci", {}), ("query-block", {}), ("query-memdev", {}),
            ("query-cpus-fast", {}), ("qom-list", {"path": "/machine/unattached"}),
            ("qom-list", {"path": "/machine"}), ("query-migrate-parameters", {}),
            ("qom-get", {"path": "/machine/unattached/system[0]", "property": "size"}),
            ("query-hotpluggable-cpus", {}), ("query-machines", {}), ("query-iothreads", {}),
        ]  # fmt: skip

        async def ask(vm: FakeQemu) -> Any:
            answers = [await vm.qmp(command, arguments) for command, arguments in queries]
            text = json.dumps([*answers, await vm.hmp("info qtree"), await vm.hmp("info qom-tree")])
            return json.loads(text.replace(str(vm.directory), "DIR"))

        options = ("-machine", "q35", "-m", "256")
        async with FakeQemu(*options, profile="10.0") as vm, Template(*options, profile="10.0")(
            client=True
        ) as copy:
            assert await ask(vm) == await ask(copy)

    async def test_a_client_connects_to_a_socket_of_its_own(self) -> None:
        base = Template(*Q35, profile="10.0")
        async with base() as one, base(client=True) as other:
            assert one.socket_path != other.socket_path
            for vm in (one, other):
                reader, writer = await asyncio.open_unix_connection(vm.socket_path)
                assert "QMP" in json.loads(await reader.readline())
                writer.write(b'{"execute": "qmp_capabilities"}\n{"execute": "query-chardev"}\n')
                await reader.readline()
                (monitor,) = json.loads(await reader.readline())["return"]
                assert str(vm.directory) in monitor["filename"]
                writer.close()
            await other.client.execute("query-status")

    def test_without_await(self) -> None:
        base = Template(*PORTED, profile="10.0", prepare=plain)
        with base.sync() as one, base.sync(clock="virtual") as other:
            one.qmp("cont")
            assert other.qmp("query-status")["status"] == "paused"
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(other.socket_path)
                assert client.makefile().readline().startswith('{"QMP"')

    async def test_a_coroutine_prepares_too(self) -> None:
        async def configure(vm: FakeQemu) -> None:
            await vm.qmp("stop")
            await vm.wait_event("STOP")

        async with Template(*Q35, profile="10.0", prepare=configure)(runner="thread") as vm:
            assert (await vm.qmp("query-status"))["status"] == "paused"

    async def test_it_boots_and_is_configured_once(self) -> None:
        times = []
        base = Template(*Q35, profile="10.0", prepare=lambda _vm: times.append(1))
        for _ in range(3):
            async with base():
                pass
        assert times == [1]

    async def test_events_of_the_preparation_are_not_waited_for(self) -> None:
        async with Template(*PORTED, profile="10.0", prepare=plain)(deadline=0.05) as vm:
            with pytest.raises(TimeoutError):
                await vm.wait_event("STOP")
            assert (await vm.wait_event("STOP", since=0)).name == "STOP"

    @pytest.mark.parametrize("clock", ["virtual", "real", "group"])
    async def test_timers_go_on(self, clock: Any) -> None:
        def prepare(vm: SyncFakeQemu) -> None:
            vm.advance(3)
            vm.guest.behave(unplug="acknowledge", delay=0.05)
            vm.qmp("device_add", {"driver": "virtio-rng-pci", "id": "rng", "bus": "rp"})
            vm.qmp("device_del", {"id": "rng"})

        base = Template(*PORTED, profile="10.0", prepare=prepare)
        for _ in range(2):
            async with base(clock=GroupClock() if clock == "group" else clock) as vm:
                assert vm.now() >= 3
                assert not vm.journal.of("event", "DEVICE_DELETED")
                if clock != "real":
                    await vm.advance(0.05)
                    assert vm.now() == 3.05
                await vm.wait_event("DEVICE_DELETED", device="rng")

    async def test_a_job_that_has_ended_waits_to_be_dismissed(self, tmp_path: Path) -> None:
        def prepare(vm: SyncFakeQemu) -> None:
            file = {"driver": "file", "filename": str(tmp_path / "f"), "size": 0}
            vm.qmp("blockdev-create", {"job-id": "j", "options": file})
            vm.run_until("job", "j", state="concluded")

        base = Template(*Q35, profile="10.0", prepare=prepare)
        for _ in range(2):
            async with base() as vm:
                assert [job["status"] for job in await vm.qmp("query-jobs")] == ["concluded"]
                await vm.qmp("job-dismiss", id="j")
                assert await vm.qmp("query-jobs") == []

    async def test_faults_stubs_and_expectations_come_along(self) -> None:
        asked: list[dict[str, Any]] = []

        def prepare(vm: SyncFakeQemu) -> None:
            vm.faults.add("error", command="query-name", desc="No", count=1)
            vm.stubs.replace("query-uuid", {"UUID": "11111111-2222-3333-4444-555555555555"})
            vm.stubs.replace("query-kvm", lambda arguments: (asked.append(arguments), KVM)[1])
            vm.expect("stop", times=1)

        base = Template(*Q35, profile="10.0", prepare=prepare, strict=True)
        for _ in range(2):
            async with base(client=True) as vm:
                with pytest.raises(Exception, match="No"):
                    await vm.client.execute("query-name")
                assert (await vm.qmp("query-uuid"))["UUID"].startswith("1111")
                assert await vm.qmp("query-kvm") == KVM
                vm.stubs.replace("query-name", {"name": "other"})
                await vm.qmp("query-name")
                await vm.qmp("stop")
        assert len(asked) == 2
        with pytest.raises(StrictnessError, match="never struck"):
            async with base() as vm:
                await vm.qmp("stop")


KVM = {"enabled": False, "present": True}


class TestCopiesShareNothing:
    async def test_one_copy_does_not_change_another(self) -> None:
        base = Template(*PORTED, profile="10.0", prepare=plain)
        async with base(clock="virtual") as one, base(clock="virtual") as other:
            before = (other.journal.total, await other.qmp("query-named-block-nodes"))
            await one.qmp("device_del", id="rng")
            one.guest.unplug("rng")
            await one.qmp("blockdev-del", node_name="n0")
            await one.qmp("object-add", qom_type="iothread", id="io1")
            await one.qmp("migrate-set-parameters", multifd_channels=9)
            await one.qmp("cont")
            await one.advance(100)
            named = [node["node-name"] for node in await one.qmp("query-named-block-nodes")]
            assert named == []
            assert other.now() == 0
            assert other.journal.total == before[0] + 2  # the query and its reply
            assert await other.qmp("query-named-block-nodes") == before[1]
            assert len(await other.qmp("query-iothreads")) == 1
            assert (await other.qmp("query-migrate-parameters"))["multifd-channels"] == 2
            assert (await other.qmp("query-status"))["status"] == "paused"
            await other.qmp("device_del", id="rng")
        async with base() as third:
            assert len(await third.qmp("query-named-block-nodes")) == 1

    async def test_nothing_that_can_change_is_in_two_copies(self) -> None:
        base = Template(*PORTED, profile="10.0", prepare=plain)
        async with base() as one, base() as other:
            shared = mutable(one.vm) & mutable(other.vm)
            assert not shared

    async def test_numbers_are_counted_by_each(self) -> None:
        def add(vm: SyncFakeQemu) -> None:
            vm.qmp("blockdev-add", {"driver": "null-co", "node-name": "n", "size": 1 << 20})

        base = Template(*Q35, profile="10.0", prepare=add)
        names = []
        for _ in range(2):
            async with base() as vm:
                await vm.hmp("drive_add 0 if=none,id=d,file=null-co://")
                named = await vm.qmp("query-named-block-nodes")
                names.append([node["node-name"] for node in named])
        assert names[0] == names[1]

    async def test_a_disk_is_read_and_what_is_written_stays_with_the_copy(
        self, tmp_path: Path
    ) -> None:
        image = tmp_path / "disk.img"
        image.write_bytes(b"A" * 8192)
        disk = ("-drive", f"if=none,id=d,format=raw,file={image}", "-device", "virtio-blk,drive=d")
        base = Template(*Q35, *disk, profile="10.0")
        async with base() as one, base() as other:
            one.guest.write_disk("d", 100, data=b"one")
            other.guest.write_disk("d", 100, data=b"two")
            for vm, text in ((one, b"one"), (other, b"two")):
                await vm.hmp('qemu-io d "read -v 96 16"')
                assert text.hex(" ") in vm.journal.of("qemu-io")[0].name
        assert image.read_bytes() == b"A" * 8192
        base.close()

    async def test_a_qcow2_image_grows_in_memory(self, tmp_path: Path) -> None:
        image = tmp_path / "disk.qcow2"

        def prepare(vm: SyncFakeQemu) -> None:
            file = {"driver": "file", "filename": str(image)}
            vm.qmp("blockdev-create", {"job-id": "j", "options": {**file, "size": 0}})
            vm.run_until("job", "j", state="concluded")
            vm.qmp("job-dismiss", {"id": "j"})
            vm.qmp("blockdev-add", {**file, "node-name": "f"})
            options = {"driver": "qcow2", "file": "f", "size": 1 << 24}
            vm.qmp("blockdev-create", {"job-id": "k", "options": options})
            vm.run_until("job", "k", state="concluded")
            vm.qmp("job-dismiss", {"id": "k"})
            vm.qmp("blockdev-add", {"driver": "qcow2", "file": "f", "node-name": "q"})

        base = Template(*Q35, profile="10.0", prepare=prepare)
        async with base() as one, base() as other:
            size = image.stat().st_size
            for vm, line in (
                (one, "write -P 7 0 1M"), (one, "read -P 7 0 1M"), (other, "read -P 0 0 1M")
            ):  # fmt: skip
                await vm.hmp(f'qemu-io q "{line}"')
                assert "1048576/1048576" in vm.journal.of("qemu-io")[-1].name
            snapshot = {"device": "q", "name": "s"}
            await one.qmp("blockdev-snapshot-internal-sync", snapshot)
            assert image.stat().st_size == size
        base.close()


def mutable(vm: Any) -> set[int]:
    """The `id` of all that can change and is reached from a machine."""
    import gc
    import types

    from fakeqemu.journal import JournalEntry
    from fakeqemu.model.events import Event

    found: dict[int, Any] = {}
    todo = [vm]
    while todo:
        one = todo.pop()
        kind = type(one)
        module = f"{kind.__module__}."
        outside = module.startswith(
            ("fakeqemu.profile.", "fakeqemu.traits.", "fakeqemu.qapi.schema", "fakeqemu.io.",
             "fakeqemu.testing.machine.waiting", "fakeqemu.testing.prepared.")
        )
        if id(one) in found or outside or isinstance(
            one, type | types.ModuleType | types.CodeType | JournalEntry | Event
        ):
            continue
        if kind is types.FunctionType:
            found[id(one)] = one
            todo += [*(one.__closure__ or ()), *(one.__defaults__ or ())]
            continue
        found[id(one)] = one
        todo += gc.get_referents(one)
    kinds = (dict, list, set, bytearray, types.CellType)
    return {
        number
        for number, one in found.items()
        if isinstance(one, kinds) or type(one).__module__.startswith("fakeqemu.model")
    }


class TestWhatCannotBeCopied:
    async def refused(self, match: str, *options: str, prepare: Any = None) -> None:
        base = Template(*options, profile="10.0", prepare=prepare)
        for _ in range(2):
            with pytest.raises(NotCopyableError, match=match):
                await base().start()

    async def test_a_job_under_way(self) -> None:
        def prepare(vm: SyncFakeQemu) -> None:
            for name in ("a", "b"):
                vm.qmp("blockdev-add", {"driver": "null-co", "node-name": name, "size": 1 << 30})
            mirror = {"device": "a", "target": "b", "sync": "full", "speed": 1 << 26}
            vm.qmp("blockdev-mirror", {"job-id": "j", **mirror})

        await self.refused("a job is under way", *Q35, prepare=prepare)

    async def test_a_migration_under_way(self) -> None:
        async def incoming(vm: FakeQemu) -> None:
            await vm.qmp("migrate-incoming", uri=vm.migration_uri)

        await self.refused("migration", *Q35, "-incoming", "defer", prepare=incoming)

    async def test_sockets_that_copies_would_share(self, tmp_path: Path) -> None:
        chardev = f"socket,id=c,path={tmp_path / 'c'},server=on,wait=off"
        await self.refused("'c'.*one address", *Q35, "-chardev", chardev)

    async def test_files_of_character_devices(self, tmp_path: Path) -> None:
        await self.refused(
            "character device", *Q35, "-chardev", f"file,id=c,path={tmp_path / 'c'}"
        )

    async def test_a_pid_file(self, tmp_path: Path) -> None:
        await self.refused("pid file", *Q35, "-pidfile", str(tmp_path / "pid"))

    async def test_a_machine_that_has_ended(self) -> None:
        await self.refused("it has ended", *Q35, prepare=lambda vm: vm.qmp("quit"))

    async def test_what_prepare_raises_every_copy_raises(self) -> None:
        def prepare(vm: SyncFakeQemu) -> None:
            vm.qmp("stop-it")

        base = Template(*Q35, profile="10.0", prepare=prepare)
        for _ in range(2):
            with pytest.raises(Exception, match="stop-it"):
                await base().start()

    async def test_mistakes_of_prepare_are_reported_once(self) -> None:
        async def prepare(vm: FakeQemu) -> None:
            vm.vm.journal.note(
                "error", "query-statu", fault="unknown-command", error_class="X", desc="none"
            )

        with pytest.raises(StrictnessError, match="query-statu"):
            await Template(*Q35, profile="10.0", prepare=prepare, strict=True)().start()

    def test_settings(self) -> None:
        with pytest.raises(UnknownNameError, match="setting of a template"):
            Template(*Q35, runner="fork")  # type: ignore[call-arg]
        with pytest.raises(ValueError, match="one socket"):
            Template(*Q35, socket="/tmp/q")  # type: ignore[arg-type]
        with pytest.raises(UnknownNameError, match="setting of a copy"):
            Template(*Q35)(profile="10.0")  # type: ignore[call-arg]


class TestTheFixture:
    def test_one_template_for_a_session(self, fakeqemu: Any) -> None:
        one = fakeqemu.template(*PORTED, prepare=plain, profile="10.0")
        again = fakeqemu.template(*PORTED, prepare=plain, profile="10.0")
        other = fakeqemu.template(*PORTED, prepare=plain, profile="11.1")
        assert one.template is again.template is not other.template
        with one.sync() as vm:
            assert vm.qmp("query-status")["status"] == "paused"

    async def test_copies_are_judged(self, fakeqemu: Any) -> None:
        base = Template(*Q35, profile="10.0")
        async with fakeqemu.template(base)(client=True, allow=["no-such"]) as vm:
            with pytest.raises(Exception, match="no-such"):
                await vm.client.execute("no-such")
            assert vm.complaints() is None
            with pytest.raises(Exception, match="no-other"):
                await vm.client.execute("no-other")
            assert "no-other" in (vm.complaints() or "")
            vm.verifier.mistakes.clear()
        with pytest.raises(TypeError, match="already"):
            fakeqemu.template(base, "-S")

    @pytest.mark.fakeqemu(profile="7.2", deadline=5)
    def test_the_marker_counts(self, fakeqemu: Any) -> None:
        with fakeqemu.template(*Q35).sync() as vm:
            assert vm.qmp("query-version")["qemu"]["major"] == 7
            assert vm.deadline == 5
