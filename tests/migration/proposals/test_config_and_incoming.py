"""Ideas about `config:` and a start that awaits a migration, and what released versions do there.

The numbers are those of docs/proposals-ideas.md.
"""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.support.snapshots import image_with_snapshot
from tests.support.waiting import until

DESIGN = "incoming-config,local"
DEFER = ("-incoming", "defer")
CONFIG = ("-incoming", "config:multifd-channels=4")
AWAITED = "Guest is waiting for an incoming migration"


def unix(path):
    """A UNIX socket's address."""
    return {"transport": "socket", "type": "unix", "path": str(path)}


async def test_item_20_parameters_then_a_listener_without_defer(boot, tmp_path):
    vm = await boot(DESIGN, *CONFIG, "-incoming", f"unix:{tmp_path / 'main'}")
    shown = await vm.qmp("query-migrate")
    assert (shown["status"], shown["socket-address"][0]["type"]) == ("setup", "unix")
    assert await vm.parameters("multifd-channels") == 4
    refused = await vm.qmp("migrate-incoming", uri=vm.machine.migration_uri)
    assert refused == "The incoming migration has already been started"


async def test_item_20_to_defer_both_are_said(boot):
    vm = await boot(DESIGN, *CONFIG, *DEFER)
    assert (await vm.status(), await vm.qmp("query-migrate")) == ("inmigrate", {})
    assert await vm.parameters("multifd-channels") == 4
    vm = await boot(DESIGN, *CONFIG)
    refused = await vm.qmp("migrate-incoming", uri=vm.machine.migration_uri)
    assert refused == "'-incoming' was not specified on the command line"


async def test_item_21_alone_it_is_for_a_later_outgoing_migration(boot):
    vm = await boot(
        DESIGN, "-machine", "q35", "-nodefaults", "-incoming", "config:max-bandwidth=1G"
    )
    assert await vm.status() == "running"
    assert await vm.qmp("migrate", uri="exec:cat >/dev/null") == {}
    await vm.machine.wait_for("migration", "completed")
    assert vm.machine.parameters.get("max-bandwidth") == 1 << 30


async def test_item_21_as_posted_the_machine_waits(boot):
    vm = await boot(DESIGN, *CONFIG, as_posted=True)
    assert await vm.status() == "inmigrate"
    assert await vm.qmp("migrate", uri="exec:true") == AWAITED
    assert await vm.qmp("cont") == {}
    assert await vm.status() == "inmigrate"
    # and migrate-incoming leads out of it
    assert await vm.qmp("migrate-incoming", uri=vm.machine.migration_uri) == {}
    source = await boot(DESIGN)
    assert await source.qmp("migrate", uri=vm.machine.migration_uri) == {}
    await vm.machine.wait_for("migration", "completed", side="incoming")
    assert await vm.status() == "running"


async def test_item_23_preconfig_and_loadvm_look_at_the_main_channel_only(boot, tmp_path):
    vm = await boot(DESIGN, "-preconfig", *CONFIG)
    assert await vm.status() == "prelaunch"
    assert await vm.qmp("x-exit-preconfig") == {}
    assert await vm.parameters("multifd-channels") == 4
    vm = await boot(DESIGN, "-preconfig", *CONFIG, *DEFER)
    assert await vm.status() == "inmigrate"
    uri = ("-incoming", f"unix:{tmp_path / 'main'}")
    vm = await boot(DESIGN, "-preconfig", *CONFIG, *uri)
    assert vm.error.text == "'preconfig' supports '-incoming defer' only"
    vm = await boot(DESIGN, "-loadvm", "s", *CONFIG, *uri)
    assert vm.error.text == "'incoming' and 'loadvm' options are mutually exclusive"


@pytest.mark.parametrize("as_posted", [False, True])
async def test_item_23_a_snapshot_is_loaded_with_config(boot, tmp_path, as_posted):
    machine = ("-machine", "q35", "-nodefaults")
    disk = await image_with_snapshot(tmp_path / "d", *machine)
    vm = await boot(
        DESIGN, *machine, *disk, "-loadvm", "s1", *CONFIG, as_posted=as_posted
    )
    # it resumes the guest, whatever the option has made the machine wait for
    assert await vm.status() == "running"
    assert await vm.parameters("multifd-channels") == 4


# -- what released versions do -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "options", "greeted", "said"),
    [
        # options are parsed before there is a socket, backends made before there is a monitor
        ("11.1", ("-incoming", "bogus:x"), False, "unknown migration protocol: bogus:x"),
        ("11.1", ("-netdev", "bogus,id=n"), False, "does not accept value 'bogus'"),
        ("11.1", ("-global", "migration.multifd-channels=0"), True, "Option multifd-channels"),
        ("11.1", ("-incoming", "file:/nonexistent"), True, "Could not open '/nonexistent'"),
        ("10.0", ("-global", "migration.multifd-channels=0"), True, "'multifd_channels' expects"),
        # here the object is made before the monitor
        ("7.2", ("-global", "migration.multifd-channels=0"), False, "'multifd_channels' expects"),
    ],
)  # fmt: skip
def test_item_55_a_greeting_and_the_end_or_the_end_alone(process, profile, options, greeted, said):
    ended = process(profile, *options)
    assert said in ended.said
    assert ended.code == 1
    assert [list(message) for message in ended.messages] == ([["QMP"]] if greeted else [])


@pytest.mark.parametrize(
    ("options", "stays"),
    [(("-incoming", "bogus:x"), False), (("-global", "migration.multifd-channels=0"), True)],
)
def test_item_55_the_file_of_the_socket_stays_after_a_late_error(
    process, tmp_path, options, stays
):
    ended = process("11.1", "-qmp", f"unix:{tmp_path / 'q'},server=on,wait=off", *options)
    assert ended.code == 1
    assert (tmp_path / "q").is_socket() is stays


async def test_item_57_a_lone_cpr_channel_leaves_the_machine_waiting(boot, tmp_path):
    cpr = json.dumps({"channel-type": "cpr", "addr": unix(tmp_path / "cpr")})
    channels = [
        {"channel-type": kind, "addr": unix(tmp_path / kind)} for kind in ("main", "cpr")
    ]
    source = await boot("local")
    await source.qmp("migrate-set-parameters", mode="cpr-transfer")
    target = asyncio.create_task(boot("local", "-incoming", cpr))
    await until((tmp_path / "cpr").exists, "the CPR channel")
    assert await source.qmp("migrate", channels=channels) == {}
    vm = await target
    assert (await vm.status(), await vm.qmp("query-migrate")) == ("inmigrate", {})
    assert await vm.qmp("migrate-incoming", channels=channels[:1]) == {}
    await vm.machine.wait_for("migration", "completed", side="incoming")
    assert await vm.status() == "running"


@pytest.mark.parametrize(
    ("profile", "reply"),
    [("10.0", "Illegal migration incoming state: setup"),
     ("11.1", "Illegal migration incoming state: setup")],
)  # fmt: skip
async def test_item_59_an_incoming_migration_that_failed_cannot_begin_again(boot, profile, reply):
    vm = await boot("local", *DEFER, profile=profile)
    uri = vm.machine.migration_uri
    assert "unknown migration protocol" in await vm.qmp("migrate-incoming", uri="bogus:x")
    assert await vm.qmp("query-migrate") == {}
    assert "Could not open" in await vm.qmp("migrate-incoming", uri="file:/nonexistent/f")
    assert (await vm.qmp("query-migrate"))["status"] == "setup"
    assert await vm.qmp("migrate-incoming", uri=uri) == reply


async def test_item_60_migrate_continue_with_the_present_state_does_nothing(boot):
    vm = await boot("local", "-machine", "q35", "-nodefaults")
    assert await vm.qmp("migrate-continue", state="none") == {}
    await vm.qmp("migrate-set-parameters", **{"max-bandwidth": 1})
    assert await vm.qmp("migrate", uri="exec:cat >/dev/null") == {}
    await vm.machine.wait_for("migration", "active")
    assert await vm.qmp("migrate-continue", state="active") == {}
    assert (await vm.qmp("query-migrate"))["status"] == "active"
    refused = await vm.qmp("migrate-continue", state="pre-switchover")
    assert refused == "Migration not in expected state: active"
