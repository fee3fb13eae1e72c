"""Parameters: ranges and their texts by version, layers, all-or-nothing changes."""

from __future__ import annotations

import pytest

from fakeqemu.migration.parameters.parameters import Layer
from fakeqemu.qapi.errors import QapiError, StartupError


@pytest.mark.parametrize(
    ("version", "parameters", "text"),
    [
        ("7.2", {"multifd_channels": 0},
         "Parameter 'multifd_channels' expects a value between 1 and 255"),
        ("10.0", {"multifd_channels": 0},
         "Parameter 'multifd_channels' expects a value between 1 and 255"),
        ("11.1", {"multifd_channels": 0},
         "Option multifd-channels expects a value between 1 and 255"),
        ("10.0", {"x_vcpu_dirty_limit_period": 0},
         "Parameter 'x-vcpu-dirty-limit-period' expects a value between 1 and 1000"),
        ("10.0", {"vcpu_dirty_limit": 0},
         "Parameter 'vcpu_dirty_limit' must be greater than 1 MB/s"),
        ("11.1", {"vcpu_dirty_limit": 0},
         "Parameter 'vcpu-dirty-limit' must be greater than 1 MB/s"),
        ("11.1", {"x_rdma_chunk_size": 3 << 20},
         "Option x_rdma_chunk_size expects a power of 2 in the range 1MiB to 1024MiB"),
        ("7.2", {"compress_threads": 0},
         "Parameter 'compress_threads' expects a value between 1 and 255"),
        ("11.1", {"xbzrle_cache_size": 4097},
         "Option xbzrle-cache-size expects a power of two no less than the target page size"),
        ("11.1", {"announce_step": 0}, "Option announce-step expects a value between 0 and 10000"),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_refused_in_the_words_of_the_version(
    make, version, parameters, text
):
    vm = make(version)
    before = vm.command("query-migrate-parameters")
    assert vm.refuses(**parameters) == text
    assert vm.command("query-migrate-parameters") == before


def test_nothing_is_set_when_one_value_is_bad(make):
    vm = make()
    vm.refuses(max_bandwidth=1, downtime_limit=2_000_001)
    assert vm.migration.parameters["max-bandwidth"] == 134217728


def test_the_first_fault_is_the_one_checked_first_not_the_one_sent_first(make):
    text = make().refuses(announce_step=0, throttle_trigger_threshold=0)
    assert text.startswith("Option throttle-trigger-threshold")


def test_the_merged_set_is_checked_so_another_member_can_be_to_blame(make):
    vm = make("10.0")
    vm.set(max_cpu_throttle=50)
    assert vm.refuses(cpu_throttle_initial=60) == (
        "Parameter 'max_cpu_throttle' expects an integer in the range of"
        " cpu_throttle_initial to 99"
    )


def test_negative_sizes_wrap_and_are_then_in_or_out_of_range(make):
    vm = make()
    vm.set(max_bandwidth=-1)
    assert vm.migration.parameters["max-bandwidth"] == 2**64 - 1
    assert "announce-initial" in vm.refuses(announce_initial=-1)


def test_null_means_no_tls(make):
    vm = make()
    vm.set(tls_creds="x")
    vm.set(tls_creds=None)
    assert vm.command("query-migrate-parameters")["tls-creds"] == ""


def test_two_members_of_7_2_are_accepted_and_ignored(make):
    vm = make("7.2")
    vm.set(multifd_zlib_level=200, multifd_channels=9)
    values = vm.command("query-migrate-parameters")
    assert (values["multifd-zlib-level"], values["multifd-channels"]) == (1, 9)


def test_mapped_ram_looks_at_the_old_values_so_it_bites_one_call_late(make):
    vm = make()
    vm.switch("mapped-ram")
    vm.set(tls_creds="x")
    assert vm.refuses(tls_creds="") == (
        "Mapped-ram only available for non-compressed non-TLS multifd migration"
    )


def test_zero_copy_looks_at_the_new_values(make):
    vm = make()
    vm.switch("multifd", "zero-copy-send")
    assert "Zero copy only" in vm.refuses(multifd_compression="zlib")


@pytest.mark.parametrize(
    ("nodes", "text"),
    [
        ([("n0", "a"), ("n0", "b")], "The node name 'n0' is mapped twice"),
        ([("n0", "a"), ("n1", "a")], "The node alias 'a' is used twice"),
        ([("n0", "")], "The node alias '' is not well-formed"),
        ([("n" * 32, "a")], f"The node name '{'n' * 32}' is longer than 31 bytes"),
        ([("n0", "a" * 256)], f"The node alias '{'a' * 256}' is longer than 255 bytes"),
    ],
)
def test_bitmap_mappings_must_be_unambiguous(make, nodes, text):
    mapping = [{"node-name": n, "alias": a, "bitmaps": []} for n, a in nodes]
    prefix = "Invalid mapping given for block-bitmap-mapping: "
    assert make().refuses(block_bitmap_mapping=mapping) == prefix + text


def test_a_mapping_shows_once_set_even_when_empty(make):
    vm = make()
    assert "block-bitmap-mapping" not in vm.command("query-migrate-parameters")
    vm.set(block_bitmap_mapping=[])
    assert vm.command("query-migrate-parameters")["block-bitmap-mapping"] == []


# -- layers --------------------------------------------------------------------------------------


def test_a_value_knows_every_layer_and_the_winner(make):
    vm = make(machine_type="pc-q35-8.2", globals=[("zero-page-detection", "none")])
    vm.set(zero_page_detection="multifd")
    told = vm.migration.parameters.explain("zero-page-detection")
    assert told.winner is Layer.QMP
    assert told.layers == {
        Layer.DEFAULT: "multifd",
        Layer.MACHINE: "legacy",
        Layer.GLOBAL: "none",
        Layer.QMP: "multifd",
    }


@pytest.mark.parametrize(("machine", "value"), [("pc-q35-8.2", "legacy"), ("q35", "multifd")])
def test_old_machine_types_keep_the_old_default(make, machine, value):
    vm = make(machine_type=machine)
    assert vm.migration.parameters["zero-page-detection"] == value


@pytest.mark.parametrize("version", ["7.2", "10.0", "11.1"])
def test_the_fresh_object_shows_the_recorded_defaults(make, version):
    vm = make(version)
    expected = vm.profile.per_machine("none")["parameters"]
    assert vm.command("query-migrate-parameters") == expected


def test_global_properties_have_their_own_names_and_errors(make):
    assert make(globals=[("x-max-bandwidth", "1.5M")]).migration.parameters[
        "max-bandwidth"
    ] == int(1.5 * 2**20)
    for name, value, text in (
        ("max-bandwidth", "5", "Property 'migration.max-bandwidth' not found"),
        ("multifd-channels", "256", "Parameter 'multifd-channels' expects uint8_t"),
        ("multifd-channels", "abc", "Parameter 'multifd-channels' expects uint64"),
        ("x-events", "ON", "Parameter 'x-events' expects 'on' or 'off'"),
        ("mode", "bad", "Parameter 'mode' does not accept value 'bad'"),
        ("x-max-bandwidth", "16E", "Value '16E' is out of range for parameter 'x-max-bandwidth'"),
    ):
        with pytest.raises(StartupError) as caught:
            make(globals=[(name, value)])
        assert caught.value.message == f"can't apply global migration.{name}={value}: {text}"


def test_a_bad_size_comes_with_a_hint(make):
    with pytest.raises(StartupError) as caught:
        make(globals=[("x-max-bandwidth", "abc")])
    assert caught.value.message.splitlines()[1:] == [
        "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-",
        "and exabytes, respectively.",
    ]


def test_the_merged_check_at_creation_has_no_prefix(make):
    with pytest.raises(StartupError) as caught:
        make(globals=[("multifd-channels", "0")])
    assert caught.value.message == "Option multifd-channels expects a value between 1 and 255"


def test_a_bad_pair_of_capabilities_is_fatal_at_creation(make):
    with pytest.raises(StartupError) as caught:
        make(globals=[("x-multifd", "on"), ("x-xbzrle", "on")])
    assert caught.value.text == "Multifd is not compatible with xbzrle"


def test_other_properties_show_in_info_migrate(make):
    vm = make("10.0", globals=[("send-configuration", "off")])
    assert "send-configuration: off\n" in vm.hmp("info migrate")


def test_change_refuses_in_any_layer(make):
    parameters = make().migration.parameters
    with pytest.raises(QapiError):
        parameters.change({"multifd-channels": 0}, Layer.CONFIG, lambda _: False)
