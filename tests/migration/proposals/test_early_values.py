"""Ideas about values that are read before there is a migration object, `mode` above all.

The numbers are those of docs/proposals-ideas.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from qemu.qmp import QMPClient

from fakeqemu.migration.parameters.early import EarlyReadError
from tests.support.processes import fake
from tests.support.waiting import listens, until, until_elsewhere

DESIGN = "incoming-config,local"
DEFER = ("-incoming", "defer")
TAP = "tap,id=n0,ifname=tap0,script=no"
CPR = ("-incoming", "config:mode=cpr-transfer")


def unix(path):
    """A UNIX socket's address."""
    return {"transport": "socket", "type": "unix", "path": str(path)}


def channels(folder):
    """The channels of a migration in mode cpr-transfer."""
    return [{"channel-type": kind, "addr": unix(folder / kind)} for kind in ("main", "cpr")]


async def handed_over(boot, folder, *options, design=DESIGN, profile="11.1"):
    """A source and a target that has its cpr state and waits for migrate-incoming."""
    source = await boot(design, profile=profile)
    await source.qmp("migrate-set-parameters", mode="cpr-transfer")
    cpr = json.dumps(channels(folder)[1])
    starting = asyncio.create_task(
        boot(design, *DEFER, "-incoming", cpr, *options, profile=profile)
    )
    await until(lambda: (folder / "cpr").exists() or starting.done(), "the CPR channel")
    assert await source.qmp("migrate", channels=channels(folder)) == {}
    return source, await starting


@pytest.mark.parametrize("name", ["multifd-channels", "max-bandwidth", "tls-creds"])
async def test_item_24_the_rest_is_invisible_before_the_object(boot, name):
    seen = {}

    def look(vm):
        create = vm.taps.create

        def creating(*arguments, **keywords):
            early = vm.migration.parameters
            seen.update({known: early.read(known) for known in ("mode", "local")})
            with pytest.raises(EarlyReadError, match=name):
                early.read(name)
            return create(*arguments, **keywords)

        vm.taps.create = creating

    given = 'config:{"multifd-channels": 4, "max-bandwidth": 1, "tls-creds": "x", "local": true}'
    vm = await boot(DESIGN, "-incoming", given, "-netdev", TAP, before_boot=[look])
    assert seen == {"mode": "normal", "local": True}
    # later anybody may
    assert vm.vm.migration.parameters.read("multifd-channels") == 4


async def test_item_26_there_is_no_mode_none(boot):
    for mode in ("none", "NONE", ""):
        vm = await boot(DESIGN, "-incoming", f"config:mode={mode}")
        assert vm.error.text == f"Parameter 'mode' does not accept value '{mode}'"
    vm = await boot(DESIGN, *DEFER, "-netdev", "tap,id=n0,fd=500")
    assert "cannot find saved value" not in vm.error.text
    vm = await boot(DESIGN)
    refused = await vm.qmp("migrate-set-parameters", mode="none")
    assert refused == "Parameter 'mode' does not accept value 'none'"
    assert await vm.parameters("mode") == "normal"


@pytest.mark.parametrize("mode", ["cpr-transfer", "cpr-exec", "cpr-reboot", "normal"])
async def test_item_27_it_takes_over_while_incoming_in_a_cpr_mode(boot, mode):
    vm = await boot(DESIGN, *DEFER, "-incoming", f"config:mode={mode}")
    takes_over = vm.vm.migration.parameters.cpr_is_incoming
    assert takes_over() is (mode in ("cpr-transfer", "cpr-exec"))
    uri = vm.machine.migration_uri
    assert await vm.qmp("migrate-incoming", uri=uri) == {}
    assert takes_over() is (mode in ("cpr-transfer", "cpr-exec"))
    source = await boot(DESIGN)
    assert await source.qmp("migrate", uri=uri) == {}
    await vm.machine.wait_for("migration", "completed", side="incoming")
    assert await vm.status() == "running"
    assert not takes_over()
    assert await vm.parameters("mode") == mode
    # and not without -incoming
    vm = await boot(DESIGN, "-incoming", f"config:mode={mode}")
    assert not vm.vm.migration.parameters.cpr_is_incoming()


@pytest.mark.parametrize("given", [None, "normal", "cpr-exec"])
async def test_item_28_a_cpr_channel_implies_its_mode(boot, tmp_path, given):
    options = () if given is None else ("-incoming", f"config:mode={given}")
    _, vm = await handed_over(boot, tmp_path, *options)
    assert await vm.parameters("mode") == "cpr-transfer"
    assert vm.vm.migration.parameters.cpr_is_incoming()
    assert not vm.machine.stderr.getvalue()


async def test_item_29_nobody_resets_the_mode_but_qmp(boot, tmp_path):
    _, vm = await handed_over(boot, tmp_path)
    assert await vm.qmp("migrate-incoming", channels=channels(tmp_path)[:1]) == {}
    await vm.machine.wait_for("migration", "completed", side="incoming")
    assert await vm.parameters("mode") == "cpr-transfer"
    # so the next migration is one too
    refused = await vm.qmp("migrate", channels=channels(tmp_path)[:1])
    assert refused == "missing 'cpr' migration channel"
    assert await vm.qmp("migrate-set-parameters", mode="normal") == {}
    assert await vm.qmp("migrate", uri="exec:cat >/dev/null") == {}
    await vm.machine.wait_for("migration", "completed", side="outgoing")


async def test_item_30_a_mode_without_its_channel_finds_nothing_saved(boot):
    vm = await boot(DESIGN, *DEFER, *CPR, "-netdev", "tap,id=n0,fd=5")
    assert vm.error.text == "cannot find saved value for fd 5"
    # one that opens its device by itself needs none
    vm = await boot(DESIGN, *DEFER, *CPR, "-netdev", TAP)
    assert vm.vm.migration.parameters.cpr_is_incoming()
    assert list(vm.vm.saved_fds) == []


async def test_item_31_a_command_is_a_list(boot):
    command = ["/bin/new", "-incoming", "config:mode=cpr-exec,cpr-exec-command.0=/bin/next"]
    words = [word.replace(",", ",,") for word in command]
    spelled = ",".join(f"cpr-exec-command.{n}={word}" for n, word in enumerate(words))
    for text in (spelled, json.dumps({"cpr-exec-command": command})):
        vm = await boot(DESIGN, "-incoming", f"config:{text}")
        assert await vm.parameters("cpr-exec-command") == command
    vm = await boot(DESIGN, "-incoming", "config:cpr-exec-command.0=a,cpr-exec-command.2=b")
    assert vm.error.text == "Parameter 'cpr-exec-command.1' missing"


async def test_item_31_28_each_process_honours_the_config_it_was_executed_with():
    # three processes, each given the command of the next one
    folder = Path(tempfile.mkdtemp(prefix="fq-", dir="/tmp"))
    stream = folder / "f"

    def command(number, *options):
        monitor = f"unix:{folder}/{number},server=on,wait=off"
        profile = f"11.1+{DESIGN.replace(',', '+')}"
        return [*fake(profile), "-machine", "none", "-display", "none", "-qmp", monitor, *options]

    third = command(3, "-incoming", f"file:{stream}", "-incoming", "config:multifd-channels=9")
    inner = json.dumps({"mode": "normal", "multifd-channels": 7, "cpr-exec-command": third})
    second = command(2, "-incoming", f"file:{stream}", "-incoming", f"config:{inner}")
    outer = json.dumps({"mode": "cpr-exec", "multifd-channels": 5, "cpr-exec-command": second})
    process = subprocess.Popen(
        command(1, "-incoming", f"config:{outer}"), stdin=subprocess.DEVNULL
    )
    try:
        for number, given in ((1, 5), (2, 7), (3, 9)):
            path = folder / str(number)
            await until_elsewhere(lambda path=path: listens(path), f"process {number}")
            client = QMPClient("test")
            await client.connect(str(path))
            shown = await client.execute("query-migrate-parameters")
            # the state that was left by exec implies the mode, whatever config says of it
            assert (shown["multifd-channels"], shown["mode"]) == (given, "cpr-exec")
            # the command is the inner one's
            assert shown["cpr-exec-command"] == {1: second, 2: third, 3: []}[number]
            if number < 3:
                await until_running(client)
                await client.execute("migrate", {"uri": f"file:{stream}"})
            # the next process has no use for the connection
            with contextlib.suppress(EOFError, ConnectionError):
                await client.disconnect()
        assert process.poll() is None
    finally:
        process.kill()
        process.wait(10)
        shutil.rmtree(folder)


async def until_running(client):
    """Until the guest has been loaded. Raises TimeoutError."""
    async with asyncio.timeout(30):
        while (await client.execute("query-status"))["status"] != "running":
            await asyncio.sleep(0)


async def test_item_32_the_outgoing_side_reads_the_same_store(boot):
    # a lone config: has nothing to do with incoming, and is read early all the same
    for options, value in ((("-incoming", "config:local=on"), True), ((), None)):
        vm = await boot(DESIGN, *options, "-netdev", TAP)
        reads = vm.machine.journal.of("early-read", "local")
        assert [entry.data["value"] for entry in reads] == [value]
        # which is no reason to wait for the device of another process
        assert [tap.opened for tap in vm.vm.taps] == [True]


@pytest.mark.parametrize(
    ("design", "profile", "shown"),
    [("local", "10.0", "normal"), ("local", "11.1", "normal"), (DESIGN, "11.1", "cpr-transfer")],
)
async def test_item_58_the_mode_that_a_target_shows(boot, tmp_path, design, profile, shown):
    _, vm = await handed_over(boot, tmp_path, design=design, profile=profile)
    assert await vm.parameters("mode") == shown
    assert await vm.qmp("migrate-incoming", channels=channels(tmp_path)[:1]) == {}
    await vm.machine.wait_for("migration", "completed", side="incoming")
    assert await vm.parameters("mode") == shown
