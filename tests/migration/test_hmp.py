"""The human monitor: text to values, and how parameters and status are printed."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("version", "line", "output"),
    [
        ("11.1", "max-bandwidth 10", ""),
        ("11.1", "max-bandwidth abc", "Error: Invalid size abc\n"),
        ("11.1", "max-bandwidth 10 20", "Error: Invalid size 10 20\n"),
        ("10.0", "nosuch 1", "Error: invalid parameter value: nosuch\n"),
        ("10.0", "multifd-channels 256",
         "Error: Parameter 'multifd-channels' expects uint8_t\n"),
        ("10.0", "multifd-channels abc",
         "Error: Parameter 'multifd-channels' expects uint64\n"),
        ("10.0", "multifd-channels 0",
         "Error: Parameter 'multifd_channels' expects a value between 1 and 255\n"),
        ("10.0", "xbzrle-cache-size 8E", "Error: Invalid size 8E\n"),
        ("10.0", "downtime-limit -1",
         "Error: Value '-1' is out of range for parameter 'downtime-limit'\n"),
        ("7.2", "downtime-limit -1",
         "Error: Parameter 'downtime-limit' expects a non-negative number below 2^64\n"
         "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
         "and exabytes, respectively.\n"),
        ("11.1", "block-bitmap-mapping x",
         "Error: The block-bitmap-mapping parameter can only be set through QMP\n"),
        ("11.1", "direct-io maybe", "Error: Parameter 'direct-io' expects 'on' or 'off'\n"),
    ],
)  # fmt: skip
def test_setting_parameters(make, version, line, output):
    assert make(version).hmp(f"migrate_set_parameter {line}") == output


def test_bandwidth_is_in_mebibytes_other_sizes_in_bytes(make):
    vm = make()
    vm.hmp("migrate_set_parameter max-bandwidth 1.5")
    vm.hmp("migrate_set_parameter announce-step 1k")
    assert vm.migration.parameters["max-bandwidth"] == 3 << 19
    assert vm.migration.parameters["announce-step"] == 1024


def test_a_list_is_split_like_a_shell_line_and_shown_plain(make):
    vm = make()
    assert vm.hmp("migrate_set_parameter cpr-exec-command a 'b c' d") == ""
    assert vm.migration.parameters["cpr-exec-command"] == ["a", "b c", "d"]
    assert vm.hmp("info migrate_parameters").endswith("cpr-exec-command: a b c d\n")
    assert vm.hmp('migrate_set_parameter cpr-exec-command "a') == (
        "Error: Text ended before matching quote was found for \"."
        " (The text was “\"a”)\n"
    )


@pytest.mark.parametrize(
    ("version", "lines"),
    [
        ("10.0", ["max-postcopy-bandwidth: 0", "tls-authz: ''", "x-vcpu-dirty-limit-period: 1000 ms"]),  # noqa: E501
        ("11.1", ["tls-hostname: ''", "tls-authz: ''", "max-bandwidth: 134217728 bytes/second"]),
    ],
)  # fmt: skip
def test_the_order_of_parameters_is_the_version_s_own(make, version, lines):
    assert "\n".join(lines) in make(version).hmp("info migrate_parameters")


def test_capabilities(make):
    vm = make()
    assert vm.hmp("migrate_set_capability xbzrle on") == ""
    assert vm.hmp("migrate_set_capability multifd on") == (
        "Error: Multifd is not compatible with xbzrle\n"
    )
    assert vm.hmp("migrate_set_capability nosuch on") == (
        "Error: invalid parameter value: nosuch\n"
    )
    assert vm.hmp("info migrate_capabilities").startswith("xbzrle: on\nrdma-pin-all: off\n")


def test_info_migrate_of_a_destination(make):
    vm = make(inmigrate=True)
    assert vm.hmp("info migrate") == ""
    vm.hmp("migrate_incoming tcp:127.0.0.1:4444")
    assert vm.hmp("info migrate") == (
        "Status: \t\tsetup\nSockets: [\n\ttcp:127.0.0.1:4444\n]\n"
    )
    older = make("7.2", inmigrate=True)
    older.hmp("migrate_incoming unix:/m")
    assert older.hmp("info migrate").endswith("socket address: [\n\tunix:/m\n]\n")


def test_info_migrate_of_a_failed_source(make, clock, host):
    host.connect_error = "no way"
    vm = make()
    vm.hmp("migrate -d unix:/m")
    clock.run_until_idle()
    assert vm.hmp("info migrate") == "Status: \t\tfailed (no way)\n"


def test_migrate_without_detach_goes_on_in_the_background(make):
    assert make("10.0").hmp("migrate unix:/m") == (
        "terminal does not allow synchronous migration, continuing detached\n"
    )
    assert make("11.1").hmp("migrate unix:/m") == ""


def test_states_are_names(make):
    vm = make()
    assert vm.hmp("migrate_continue nosuch") == "Error: invalid parameter value: nosuch\n"
    assert vm.hmp("migrate_continue active") == (
        "Error: Migration not in expected state: none\n"
    )
