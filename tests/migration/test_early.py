"""`-incoming config:` and the early parameter store, from option to migration object."""

from __future__ import annotations

import pytest

from fakeqemu.boot.cmdline.options import parse_command_line
from fakeqemu.configuration import Defer, EarlyConfig, IncomingChannel
from fakeqemu.explain import explain_boot
from fakeqemu.migration.incoming.incoming_option import parse_incoming
from fakeqemu.migration.parameters.early import (
    EarlyParameters,
    EarlyReadError,
)
from fakeqemu.migration.parameters.parameters import Layer
from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import QapiError, StartupError


def config(text: str) -> dict:
    parsed = parse_incoming(f"config:{text}", Profile.load("next"))
    assert isinstance(parsed, EarlyConfig)
    return parsed.values


def early(text: str = "", **options) -> EarlyParameters:
    store = EarlyParameters(**options)
    store.add_config(config(text))
    return store


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("multifd-channels=4,local=on", {"multifd-channels": 4, "local": True}),
        ('{"multifd-channels": 4, "local": true}', {"multifd-channels": 4, "local": True}),
        ("multifd-channels=0x10,max-bandwidth=1.5M",
         {"multifd-channels": 16, "max-bandwidth": 3 << 19}),
        ("multifd-channels=4,multifd-channels=5", {"multifd-channels": 5}),
        ("tls-creds=a,,b", {"tls-creds": "a,b"}),
        ('{"tls-creds": null}', {"tls-creds": None}),
        ("cpr-exec-command.0=qemu,cpr-exec-command.1=-S", {"cpr-exec-command": ["qemu", "-S"]}),
        ('{"block-bitmap-mapping": []}', {"block-bitmap-mapping": []}),
    ],
)  # fmt: skip
def test_both_spellings_come_to_the_same_typed_values(text, values):
    assert config(text) == values


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("postcopy-ram=on", "Parameter 'postcopy-ram' is unexpected"),
        ("only-migratable=on", "Parameter 'only-migratable' is unexpected"),
        ("mode=none", "Parameter 'mode' does not accept value 'none'"),
        ("multifd-channels", "Expected '=' after parameter 'multifd-channels'"),
        ("multifd-channels=256", "Parameter 'multifd-channels' expects uint8_t"),
        ("multifd-channels=x", "Parameter 'multifd-channels' expects integer"),
        ("max-bandwidth=x", "Parameter 'max-bandwidth' expects size"),
        ("local=maybe", "Parameter 'local' expects 'on' or 'off'"),
        ("cpr-exec-command=qemu",
         "Invalid parameter type for 'cpr-exec-command', expected: array"),
        ("help", "Help is not available for this option"),
        ('{"multifd-channels": "4"}', "Parameter 'multifd-channels' expects uint64"),
        ("{", "1:2: JSON parse error, premature end of input"),
    ],
)  # fmt: skip
def test_faults_of_the_option(text, fault):
    with pytest.raises(QapiError) as caught:
        config(text)
    assert caught.value.desc == fault


def test_the_prefix_is_exact_and_unknown_to_real_versions():
    with pytest.raises(QapiError) as caught:
        parse_incoming("config:", Profile.load("11.1"))
    assert caught.value.desc == "unknown migration protocol: config:"
    with pytest.raises(QapiError):
        parse_incoming("CONFIG:", Profile.load("next"))


@pytest.mark.parametrize(
    "argv",
    [
        ("config:", "config:"),
        ("config:multifd-channels=4", "defer", "config:nosuch=1"),
        ("config:multifd-channels=4", "config:multifd-channels=4", "nosuch:"),
    ],
)
def test_only_one_whatever_it_says_and_before_the_version_is_printed(argv):
    options = [word for text in argv for word in ("-incoming", text)]
    with pytest.raises(StartupError) as caught:
        parse_command_line([*options, "-version"], Profile.load("next"))
    last = next(text for text in argv[1:] if text.startswith("config:"))
    said = f"-incoming {last}: Only one -incoming config:* is allowed."
    assert caught.value.message == said


@pytest.mark.parametrize(
    ("below", "config", "refused"),
    [
        ("multifd-channels=0", "multifd-channels=4", None),
        ("multifd-channels=0", "max-bandwidth=1", "multifd-channels"),
        ("mapped-ram=on", "tls-creds=x", "Mapped-ram only available for non-compressed non-TLS"),
    ],
)
def test_what_config_repairs_starts_and_what_it_breaks_does_not(below, config, refused):
    argv = ("-machine", "none", "-global", f"migration.{below}", "-incoming", f"config:{config}")
    account = explain_boot(argv, Profile.load("next"))
    if refused is None:
        assert (account["error"], account["exit"]) == (None, 0)
    else:
        assert refused in account["error"]
        assert account["exit"] == 1


def test_json_without_a_channel_type_is_parameters_only_in_the_dialect():
    next_ = Profile.load("next")
    with pytest.raises(QapiError) as caught:
        parse_incoming('{"multifd-channels": 4}', next_)
    assert caught.value.desc == "Parameter 'channel-type' is missing"
    parsed = parse_incoming('{"multifd-channels": 4}', Profile.load("next", ["incoming-json"]))
    assert parsed == EarlyConfig({"multifd-channels": 4})


# -- reading early -------------------------------------------------------------------------------


def test_only_mode_and_local_may_be_read_early():
    store = early("local=on,multifd-channels=4")
    assert store.read("local") is True
    assert store.read("mode") == "normal"
    with pytest.raises(EarlyReadError):
        store.read("multifd-channels")


def test_an_unset_value_reads_as_nothing_or_as_a_default_of_choice():
    assert early().read("local") is None
    assert early(defaults={"local": False}).read("local") is False


def test_a_cpr_channel_overrules_the_mode_of_config():
    store = early("mode=normal")
    store.imply_mode("cpr-transfer")
    assert store.read("mode") == "cpr-transfer"


# -- the object takes over -----------------------------------------------------------------------


def test_config_lies_between_global_and_qmp(make):
    vm = make("next", globals=[("multifd-channels", "3")], early=early("multifd-channels=4"))
    parameters = vm.migration.parameters
    assert parameters.explain("multifd-channels").winner is Layer.CONFIG
    vm.set(multifd_channels=5)
    assert parameters.explain("multifd-channels").layers == {
        Layer.DEFAULT: 2,
        Layer.GLOBAL: 3,
        Layer.CONFIG: 4,
        Layer.QMP: 5,
    }


def test_the_store_is_gone_once_the_object_has_it(make):
    vm = make("next", early=early("local=on"))
    with pytest.raises(EarlyReadError):
        vm.reader.early.read("local")
    assert vm.reader.read("local") is True
    vm.set(local=False)
    assert vm.reader.read("local") is False


def test_early_reads_are_in_the_journal(make):
    vm = make("next", early=early("local=on"))
    machine = vm.machine
    vm.reader.object, vm.reader.early = None, early("local=on")
    assert vm.reader.read("local") is True
    assert [e.data for e in machine.journal.of("early-read", "local")] == [{"value": True}]


def test_what_is_legal_alone_may_be_illegal_merged(make):
    with pytest.raises(StartupError) as caught:
        make(
            "next",
            globals=[("x-cpu-throttle-initial", "50")],
            early=early("max-cpu-throttle=40"),
        )
    assert caught.value.message == (
        "Option max-cpu-throttle expects an integer in the range of cpu-throttle-initial to 99"
    )
    assert caught.value.code == 1


def test_the_posted_code_aborts_there(make):
    with pytest.raises(StartupError) as caught:
        make("next", early=early("multifd-channels=0", as_posted=True))
    assert caught.value.code == -6


def test_config_over_an_old_machine_type(make):
    vm = make("next", machine_type="pc-q35-8.2", early=early("zero-page-detection=none"))
    told = vm.migration.parameters.explain("zero-page-detection")
    assert told.layers[Layer.MACHINE] == "legacy"
    assert told.value == "none"


def test_null_for_tls_reads_as_empty(make):
    vm = make("next", early=early('{"tls-creds": null}'))
    assert vm.command("query-migrate-parameters")["tls-creds"] == ""


# -- CPR -----------------------------------------------------------------------------------------


def test_cpr_is_incoming_while_waiting_in_a_cpr_mode_only(make):
    waiting = make("next", inmigrate=True, early=early("mode=cpr-transfer"))
    assert waiting.reader.cpr_is_incoming()
    waiting.machine.runstate.set("running")
    assert not waiting.reader.cpr_is_incoming()
    assert waiting.migration.parameters["mode"] == "cpr-transfer"
    assert not make("next", inmigrate=True).reader.cpr_is_incoming()
    assert not make("next", early=early("mode=cpr-transfer")).reader.cpr_is_incoming()


def test_real_versions_keep_the_implied_mode_to_themselves(make):
    vm = make("11.1", inmigrate=True)
    vm.migration.incoming_mode = "cpr-transfer"
    assert vm.reader.cpr_is_incoming()
    assert vm.command("query-migrate-parameters")["mode"] == "normal"


# -- the other forms of -incoming ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "argument", "fault"),
    [
        ("7.2", "foo", "unknown migration protocol: foo"),
        ("7.2", "file:/x", "unknown migration protocol: file:/x"),
        ("7.2", "", "unknown migration protocol: "),
        ("10.0", "foo", "Parameter 'channel-type' does not accept value 'foo'"),
        ("10.0", "foo:bar", "unknown migration protocol: foo:bar"),
        ("10.0", "", "Parameter 'channel-type' is missing"),
        ("10.0", "main", "Parameter 'addr' is missing"),
        ("10.0", "1tcp:x", "Parameter 'channel-type' does not accept value '1tcp:x'"),
        ("10.0", "DEFER", "Parameter 'channel-type' does not accept value 'DEFER'"),
        ("11.1", "{", "1:2: JSON parse error, premature end of input"),
        ("11.1", '{"channel-type": "main"}', "Parameter 'addr' is missing"),
    ],
)
def test_bad_arguments(version, argument, fault):
    with pytest.raises(QapiError) as caught:
        parse_incoming(argument, Profile.load(version))
    assert caught.value.desc == fault


def test_good_arguments():
    profile = Profile.load("11.1")
    assert parse_incoming("defer", profile) == Defer()
    channel = parse_incoming(
        "cpr,addr.transport=socket,addr.type=unix,addr.path=/c", profile
    )
    assert isinstance(channel, IncomingChannel)
    assert channel.channel_type == "cpr"
    assert channel.address == {"transport": "socket", "type": "unix", "path": "/c"}
    uri = parse_incoming("unix:/a,b", profile)
    assert isinstance(uri, IncomingChannel)
    assert uri.address["path"] == "/a,b"
