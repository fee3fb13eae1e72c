"""CPR over whole machines: memory that stays, two processes that hand over, exec that fails."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from fakeqemu.qapi.errors import StartupError
from fakeqemu.testing import FakeQemu, QmpError
from tests.support.waiting import until

SHARED = (
    *("-machine", "q35,memory-backend=ram0,aux-ram-share=on", "-nodefaults", "-m", "64"),
    *("-object", "memory-backend-memfd,id=ram0,size=64M,share=on"),
)
EVENTS = [{"capability": "events", "state": True}]
VERSIONS = ["10.0", "11.1", "next"]


def machine(*options, profile="next"):
    return FakeQemu(*options, profile=profile, socket=False, client=False)


def unix(path):
    return {"transport": "socket", "type": "unix", "path": str(path)}


def cpr_option(path):
    return f"channel-type=cpr,addr.transport=socket,addr.type=unix,addr.path={path}"


def channels(folder):
    return [
        {"channel-type": "main", "addr": unix(folder / "main")},
        {"channel-type": "cpr", "addr": unix(folder / "cpr")},
    ]


async def come_to(vm, status):
    """What query-migrate says once the migration is in that state."""
    await vm.wait_for("migration", status)
    return await vm.qmp("query-migrate")


async def wait_for_state(path, starting):
    """Until a machine that is starting listens for CPR state, which it waits for."""
    await until(path.exists, "the CPR channel")
    assert not starting.done()


def states(vm):
    """States and stops from the beginning of the migration."""
    shown = []
    for event in vm.events:
        if event.name == "MIGRATION":
            shown.append(event.data["status"])
        elif event.name in ("STOP", "RESUME"):
            shown.append(event.name)
    return shown[shown.index("setup") :]


@pytest.mark.parametrize("profile", VERSIONS)
async def test_the_target_waits_for_the_state_and_the_source_for_the_target(profile, tmp_path):
    target = machine(
        *SHARED, "-incoming", "defer", "-incoming", cpr_option(tmp_path / "cpr"), profile=profile
    )
    starting = asyncio.create_task(target.start())
    await wait_for_state(tmp_path / "cpr", starting)
    async with machine(*SHARED, profile=profile) as source:
        await source.qmp("migrate-set-capabilities", capabilities=EVENTS)
        await source.qmp("migrate-set-parameters", mode="cpr-transfer")
        await source.qmp("migrate", channels=channels(tmp_path))
        await starting
        assert await source.qmp("query-migrate") == {"status": "setup"}
        names = {saved.name: os.fstat(saved.fd).st_size for saved in target.vm.saved_fds}
        source.guest.write_memory(address=0x7008, data=b"written while the target waits")
        assert names["ram0"] == 64 << 20
        assert {"pc.bios", "pc.rom"} < set(names)
        await target.qmp("migrate-incoming", uri=f"unix:{tmp_path / 'main'}")
        done = await come_to(source, "completed")
        assert done["ram"]["total"] == 0
        await come_to(target, "completed")
        assert target.vm.guest_memory.read(0x7008, 15) == b"written while t"
        assert (await target.qmp("query-status"))["status"] == "running"
        assert states(source) == ["setup", "STOP", "active", "device", "completed"]
        mode = (await target.qmp("query-migrate-parameters"))["mode"]
        assert mode == ("cpr-transfer" if profile == "next" else "normal")
    await target.stop()


@pytest.mark.parametrize("profile", VERSIONS)
async def test_a_cancel_while_the_target_is_awaited(profile, tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "cpr"))
        listener.listen()
        async with machine(*SHARED, profile=profile) as source:
            await source.qmp("migrate-set-capabilities", capabilities=EVENTS)
            await source.qmp("migrate-set-parameters", mode="cpr-transfer")
            await source.qmp("migrate", channels=channels(tmp_path))
            with pytest.raises(QmpError, match="There's a migration process in progress"):
                await source.qmp("migrate-set-capabilities", capabilities=EVENTS)
            await source.qmp("migrate_cancel")
            assert await source.qmp("query-migrate") == {"status": "cancelled"}
            assert states(source) == ["setup", "cancelling", "cancelled"]


async def test_a_target_that_hangs_up_without_listening(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "cpr"))
        listener.listen()
        async with machine(*SHARED) as source:
            await source.qmp("migrate-set-parameters", mode="cpr-transfer")
            await source.qmp("migrate", channels=channels(tmp_path))
            listener.accept()[0].close()
            failed = await come_to(source, "failed")
            assert failed["error-desc"].startswith("Failed to connect to")


@pytest.mark.parametrize(
    ("cpr", "text"),
    [
        ({"transport": "file", "filename": "/x", "offset": 0}, "bad cpr channel address; must be"),
        (unix("/nonexistent/c"), "Failed to connect to '/nonexistent/c': No such file"),
    ],
)
async def test_a_bad_cpr_channel_fails_the_migration(cpr, text):
    async with machine("-machine", "none") as source:
        await source.qmp("migrate-set-parameters", mode="cpr-transfer")
        with pytest.raises(QmpError, match=text):
            await source.qmp(
                "migrate",
                channels=[
                    {"channel-type": "main", "addr": unix("/nonexistent/m")},
                    {"channel-type": "cpr", "addr": cpr},
                ],
            )
        assert (await source.qmp("query-migrate"))["status"] == "failed"


@pytest.mark.parametrize("profile", VERSIONS)
async def test_without_the_cpr_channel(profile):
    async with machine("-machine", "none", profile=profile) as source:
        await source.qmp("migrate-set-parameters", mode="cpr-transfer")
        with pytest.raises(QmpError, match="missing 'cpr' migration channel"):
            await source.qmp("migrate", uri="unix:/nonexistent/m")
        assert await source.qmp("query-migrate") == {}


@pytest.mark.parametrize(
    ("options", "blocked"),
    [
        ((), ["pc.ram", "pc.bios", "pc.rom"]),
        (("-machine", "aux-ram-share=on"), ["pc.ram"]),
        (("-device", "VGA"), ["pc.ram", "pc.bios", "pc.rom", "vga.vram", "vga.rom"]),
    ],
)
async def test_memory_that_is_not_shared_blocks(options, blocked):
    async with machine("-machine", "q35", "-nodefaults", "-m", "64", *options) as source:
        assert await source.qmp("query-migrate") == {}
        await source.qmp("migrate-set-parameters", mode="cpr-transfer")
        reasons = (await source.qmp("query-migrate"))["blocked-reasons"]
        regions = [reason.split()[2] for reason in reasons]
        assert [name for name in regions if not name.startswith("/rom@")] == blocked
        with pytest.raises(QmpError, match="share=on is required"):
            await source.qmp(
                "migrate",
                channels=channels(source.directory),
            )
        await source.qmp("migrate-set-parameters", mode="cpr-exec")
        assert await source.qmp("query-migrate") == {}


@pytest.mark.parametrize(
    ("profile", "option", "text"),
    [
        (
            "10.0",
            "channel-type=cpr,addr.transport=socket,addr.type=fd,addr.str=77",
            "bad cpr channel socket type; must be unix",
        ),
        ("11.1", cpr_option("/nonexistent/c"), "Failed to bind socket to /nonexistent/c"),
    ],
)
async def test_a_bad_channel_of_the_command_line(profile, option, text):
    with pytest.raises(StartupError) as caught:
        await machine("-machine", "none", "-incoming", option, profile=profile).start()
    assert caught.value.message.startswith(text)


async def test_garbage_on_the_cpr_channel(tmp_path):
    target = machine("-machine", "none", "-incoming", cpr_option(tmp_path / "cpr"))
    starting = asyncio.create_task(target.start())
    await wait_for_state(tmp_path / "cpr", starting)
    with socket.socket(socket.AF_UNIX) as old:
        old.connect(str(tmp_path / "cpr"))
        old.sendall(b"GARBAGE!")
        with pytest.raises(StartupError) as caught:
            await starting
    assert caught.value.message == "Not a migration stream (bad magic 47415242)"


@pytest.mark.parametrize(("options", "after"), [((), "running"), (("-S",), "postmigrate")])
async def test_an_exec_that_fails_goes_on_as_before(options, after, tmp_path):
    async with machine("-machine", "none", *options) as vm:
        await vm.qmp("migrate-set-capabilities", capabilities=EVENTS)
        await vm.qmp("migrate-set-parameters", mode="cpr-exec")
        with pytest.raises(QmpError, match="cpr-exec mode requires setting cpr-exec-command"):
            await vm.qmp("migrate", uri=f"file:{tmp_path / 'f'}")
        await vm.qmp("migrate-set-parameters", {"cpr-exec-command": ["/nonexistent/cmd"]})
        await vm.qmp("migrate", uri=f"file:{tmp_path / 'f'}")
        failed = await come_to(vm, "failed")
        # a machine inside a test may not become another process
        assert failed["error-desc"].startswith("execvp /nonexistent/cmd failed: ")
        assert (await vm.qmp("query-status"))["status"] == after
        end = ["completed", "failed", "RESUME"] if after == "running" else ["completed", "failed"]
        assert states(vm)[-len(end) :] == end
        assert (tmp_path / "f").stat().st_size


# -- descriptors that users gave ------------------------------------------------------------------


def iommu_descriptor(vm):
    return vm.vm.iommus.descriptor("iommu0")


@pytest.mark.parametrize(("profile", "saved"), [("10.0", False), ("11.1", True), ("next", True)])
async def test_item_30_the_descriptor_of_an_iommufd_is_handed_over(profile, saved, tmp_path):
    file = os.open(tmp_path / "iommu", os.O_RDWR | os.O_CREAT)
    given = ("-object", f"iommufd,id=iommu0,fd={file}")
    # the number means nothing to the process that takes over
    taken = ("-object", "iommufd,id=iommu0,fd=1000000")
    target = machine(
        *SHARED, *taken, "-incoming", "defer", "-incoming", cpr_option(tmp_path / "cpr"),
        profile=profile,
    )  # fmt: skip
    starting = asyncio.create_task(target.start())
    await wait_for_state(tmp_path / "cpr", starting)
    async with machine(*SHARED, *given, profile=profile) as source:
        assert iommu_descriptor(source) == file
        await source.qmp("migrate-set-parameters", mode="cpr-transfer")
        await source.qmp("migrate", channels=channels(tmp_path))
        await starting
        assert ("iommu0" in {each.name for each in target.vm.saved_fds}) is saved
        if saved:
            assert os.path.samestat(os.fstat(iommu_descriptor(target)), os.fstat(file))
        else:
            assert iommu_descriptor(target) == 1000000
        await source.qmp("migrate_cancel")
    await target.stop()
    os.close(file)


async def test_item_30_an_iommufd_that_finds_nothing_saved_says_nothing():
    """As in QEMU, which looks and does not check."""
    options = ("-incoming", "defer", "-incoming", "config:mode=cpr-transfer")
    async with machine("-machine", "none", *options, "-object", "iommufd,id=iommu0,fd=0") as vm:
        assert iommu_descriptor(vm) is None


@pytest.mark.parametrize(
    ("profile", "own"), [("10.0", True), ("11.1", True), ("11.1+tap-cpr", False), ("next", False)]
)
async def test_item_30_whether_the_mode_of_a_deferred_target_makes_it_one_of_cpr(profile, own):
    """A released version goes by its cpr channel alone: the object uses the descriptor it got."""
    async with machine("-machine", "none", "-incoming", "defer", profile=profile) as vm:
        await vm.qmp("migrate-set-parameters", mode="cpr-transfer")
        await vm.qmp("object-add", {"qom-type": "iommufd", "id": "iommu0", "fd": "0"})
        assert iommu_descriptor(vm) == (0 if own else None)


async def test_an_iommufd_takes_a_number_or_a_name_that_the_monitor_knows():
    async with machine("-machine", "none", profile="11.1") as vm:
        add = {"qom-type": "iommufd", "id": "iommu0"}
        with pytest.raises(QmpError, match="/dev/iommu does not exist"):
            await vm.qmp("object-add", add)
        with pytest.raises(QmpError) as caught:
            await vm.qmp("object-add", {**add, "fd": "nope"})
        assert caught.value.desc == (
            "Could not parse remote object fd nope:"
            "File descriptor named 'nope' has not been found"
        )
        await vm.qmp("object-add", {**add, "fd": "0"})
        await vm.qmp("object-del", id="iommu0")
        assert iommu_descriptor(vm) is None


async def test_item_30_no_tap_of_a_released_version_looks_for_a_saved_descriptor(tmp_path):
    target = machine(
        "-netdev", "tap,id=n0,fd=1000000",
        *(*SHARED, "-incoming", "defer", "-incoming", cpr_option(tmp_path / "cpr")),
        profile="11.1",
    )  # fmt: skip
    starting = asyncio.create_task(target.start())
    await wait_for_state(tmp_path / "cpr", starting)
    async with machine(*SHARED, profile="11.1") as source:
        await source.qmp("migrate-set-parameters", mode="cpr-transfer")
        await source.qmp("migrate", channels=channels(tmp_path))
        with pytest.raises(StartupError) as caught:
            await starting
    assert "saved value" not in caught.value.message
    assert "Bad file descriptor" in caught.value.message
