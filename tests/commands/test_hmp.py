import inspect

import pytest

import fakeqemu.commands  # noqa: F401
from fakeqemu.commands.hmp.definitions import HmpTable
from fakeqemu.commands.hmp.registry import HMP_COMMANDS
from fakeqemu.commands.registry import COMMANDS, keyword_of
from fakeqemu.profile import Profile

PROFILES = ["7.2", "10.0", "11.1", "next"]
#: designs with commands of their own
PROPOSED = ["11.1+prepare-run"]


def entries(profile):
    for entry in HmpTable.of(Profile.load(profile)).commands:
        yield entry
        yield from entry.table or ()


@pytest.mark.parametrize("profile", PROFILES)
def test_functions_take_what_the_letters_give(profile):
    looked_at = 0
    for entry in entries(profile):
        command = HMP_COMMANDS.get(entry.key)
        if command is None:
            continue
        looked_at += 1
        letters = entry.args if command.args is None else command.args
        keys = []
        for item in filter(None, letters.split(",")):
            key, _, kind = item.partition(":")
            keys += ["count", "format", "size"] if kind == "/" else [keyword_of(key)]
        function = command.function
        if function is None:
            qmp = COMMANDS[command.qmp]
            assert not qmp.monitor
            if qmp.raw:
                members = {m.name for m in _members(profile, command.qmp)}
                assert {item.partition(":")[0] for item in letters.split(",")} <= members
                continue
            function = inspect.unwrap(qmp.function)
        inspect.signature(function).bind_partial(None, **dict.fromkeys(keys))
    assert looked_at > 100


def _members(profile, name):
    return Profile.load(profile).schema.commands[name].arg_type.members


def test_every_modelled_command_exists_in_some_version():
    known = {entry.key for profile in PROFILES for entry in entries(profile)}
    assert set(HMP_COMMANDS) <= known


def test_every_qmp_command_exists_and_takes_its_arguments():
    schemas = [Profile.load(profile).schema for profile in [*PROFILES, *PROPOSED]]
    for name, command in COMMANDS.items():
        having = [schema.commands[name] for schema in schemas if name in schema.commands]
        assert having, name
        if command.raw:
            continue
        for info in having:
            members = dict.fromkeys(keyword_of(m.name) for m in info.arg_type.members)
            inspect.signature(command.function).bind_partial(None, **members)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("", ""),
        ("nope x", "unknown command: 'nope'\n"),
        ("info  nope", "unknown command: 'info  nope'\n"),
        (
            "info name x",
            "name: extraneous characters at the end of line\n"
            'Try "help info name" for more information\n',
        ),
        ("set_link n", "Expected 'on' or 'off'\nTry \"help set_link\" for more information\n"),
        (
            'device_del "x',
            'device_del: string expected\nTry "help device_del" for more information\n',
        ),
        ("x", 'unexpected end of expression\nTry "help x" for more information\n'),
        ("x /z 0", "invalid char in format: 'z'\nTry \"help x\" for more information\n"),
        ("print 2+3*4", "0xe\n"),
        ("print " + "(" * 5000 + "1" + ")" * 5000, "0x1\n"),
        ("print " + "-" * 5001 + "1", "0xffffffffffffffff\n"),
        ("print " + "(" * 5000 + "1", '\')\' expected\nTry "help print" for more information\n'),
        ("print /d (2+3)*-4", "-20\n"),
        ("print /c 65", "'A'\n"),
        ("print /c 39", "'\\''\n"),
        ("print /c 10", "'\\n'\n"),
        ("print /c 0x1234", "'\\x1234'\n"),
        ("print /c -1", "'\\xffffffff'\n"),
        ("p 1/0", 'division by zero\nTry "help p" for more information\n'),
        ("cpu 1", "invalid CPU index\n"),
        ("cpu 0x100000000", "'cpu' has failed: integer is for 32-bit values\n"
         'Try "help cpu" for more information\n'),
        ("help c", "cont|c  -- resume emulation\n"),
        ("help info nope", "unknown command: 'info nope'\n"),
        ("balloon -1", 'enter a positive value\nTry "help balloon" for more information\n'),
        ("info status", "VM status: paused (prelaunch)\n"),
        ("device_del nope", "Error: Device 'nope' not found\n"),
        ("object_add nope,id=i", "Error: Parameter 'qom-type' does not accept value 'nope'\n"),
        ("info mtree", "fakeqemu does not model 'info mtree'\n"),
    ],
)
def test_lines(start, line, text):
    assert start("-machine", "none", "-S").hmp(line) == text


def test_actions_raise_events(q35):
    for line in ("c", "s", "system_reset", "system_powerdown"):
        assert q35.hmp(line) == ""
    assert q35.names() == ["RESUME", "STOP", "RESET", "POWERDOWN"]


def test_help_before_the_machine_is_ready(start):
    machine = start("-machine", "none", "-preconfig")
    assert machine.hmp("info name") == ""
    assert machine.hmp("device_del x") == (
        "Command 'device_del' not available until machine initialization has completed.\n"
    )
    assert "device_del" not in machine.hmp("help")


def test_human_monitor_command_turns_line_ends(q35):
    reply = q35.ask("human-monitor-command", **{"command-line": "info status"})
    assert reply == "VM status: paused (prelaunch)\r\n"
    text = q35.error("human-monitor-command", **{"command-line": "info cpus", "cpu-index": 9})[1]
    assert text == "Parameter 'cpu-index' expects a CPU number"


def test_memory_and_objects(start):
    machine = start("-machine", "none")
    assert machine.hmp("object_add memory-backend-ram,id=m,size=4k") == ""
    assert machine.hmp("info memdev").startswith("memory backend: m\n  size:  4096\n")
    assert machine.hmp("qom-get /objects/m size") == "4096\n"
    assert machine.hmp("object_del m") == ""
