"""What a profile says of each version, against facts known from elsewhere."""

from __future__ import annotations

import gzip

import pytest

from fakeqemu.profile import Profile, store

RECORDED = ["7.2", "8.2", "10.0", "11.1"]
EVERY = [*RECORDED, "next"]
#: those without a program; see test_composed
COMPOSED = ["6.2", "7.0", "7.1", "8.0", "8.1", "9.0", "9.1", "9.2"]


@pytest.fixture(params=EVERY)
def profile(request):
    return Profile.load(request.param)


def test_names_are_in_order_of_version():
    numbers = sorted([*RECORDED, *COMPOSED], key=lambda name: [int(n) for n in name.split(".")])
    assert Profile.names() == [*numbers, "next"]
    assert Profile.names(composed=False) == EVERY


def test_load_gives_one_object_and_refuses_unknown_names():
    assert Profile.load("7.2") is Profile.load("7.2")
    with pytest.raises(LookupError, match=r"no profile '6\.0' \(there are 6\.2, 7\.0, 7\.1"):
        Profile.load("6.0")


def test_a_folder_elsewhere_is_a_profile_too(tmp_path):
    for part in ("version", "commands"):
        value = Profile.load("10.0").part(part)
        store.write_part(tmp_path / "mine", part, value)
    mine = Profile.load(f"{tmp_path}/mine")
    assert mine.version == Profile.load("10.0").version
    assert mine.traits == Profile.load("10.0").traits
    assert mine.commands == Profile.load("10.0").commands


@pytest.mark.parametrize(
    ("name", "version", "schema", "commands", "early", "machines"),
    [
        ("7.2", "7.2.22", 1051, 216, 74, 59),
        ("8.2", "8.2.2", 1135, 228, 74, 131),
        ("10.0", "10.0.13", 1177, 233, 75, 65),
        ("11.1", "11.1.3", 1230, 242, 76, 41),
    ],
)
def test_sizes(name, version, schema, commands, early, machines):
    profile = Profile.load(name)
    assert str(profile.version) == version
    assert len(profile.part("schema")) == schema
    assert len(profile.commands) == commands
    assert len(profile.preconfig_commands) == early
    assert len(profile.machines) == machines


def test_what_may_run_early(profile):
    early = profile.preconfig_commands
    assert {"netdev_add", "object-add", "query-status", "quit", "x-exit-preconfig"} <= early
    assert not {"migrate", "migrate-set-parameters", "device_add", "cont", "stop"} & early
    assert early <= set(profile.commands)


def test_machine_names_aliases_and_defaults(profile):
    version = profile.version
    # a development version has the machine types of the release to come
    newest = f"{version.major}.{version.minor + (version.micro == 50)}"
    # the 8.2 is Ubuntu's, whose machine types are called after its releases
    newest = "noble" if profile.name == "8.2" else newest
    assert profile.machine("q35").name == f"pc-q35-{newest}"
    assert profile.machine("pc").name == f"pc-i440fx-{newest}"
    default = "ubuntu" if profile.name == "8.2" else "pc"
    assert profile.machine(default) is profile.default_machine
    assert profile.machine("none").default_ram_id == "ram"
    with pytest.raises(KeyError):
        profile.machine("nosuch")


def test_machine_help_and_entries_agree(profile):
    helped = profile.help("-machine help")
    for machine in profile.machines:
        assert f"\n{machine.name} " in helped
        assert machine.desc in helped
        if machine.name in profile.part("machine-data"):
            assert bool(machine.deprecation_reason) == machine.deprecated, machine.name
    assert {"acpi", "memory-backend", "smp"} <= set(profile.machine("q35").option_names())


def test_compat_of_the_migration_object(profile):
    """From query-machines where the version tells, seen from outside where it does not."""
    compat = {
        m.name: {(p, v) for t, p, v in m.compat_props if t == "migration"}
        for m in profile.machines
    }
    if profile.name in ("7.2", "8.2"):
        assert ("decompress-error-check", "off") in compat["pc-i440fx-2.12"]
        assert ("send-section-footer", "off") in compat["pc-i440fx-2.3"]
        assert compat["pc-q35-3.0"] == set()
    else:
        assert ("zero-page-detection", "legacy") in compat["pc-q35-8.2"]
        assert ("zero-page-detection", "legacy") not in compat["pc-q35-9.0"]
    assert compat[profile.default_machine.name] == set()


def test_parameters_of_machines(profile):
    if profile.name not in ("7.2", "8.2"):
        assert profile.per_machine("pc-q35-8.2")["parameters"]["zero-page-detection"] == "legacy"
        assert profile.migration_defaults.parameters["zero-page-detection"] == "multifd"
    assert profile.migration_defaults.parameters["max-bandwidth"] == 134217728


def test_migration_names_and_properties(profile):
    known = profile.migration_defaults
    assert known.property_of("max-bandwidth") == "x-max-bandwidth"
    assert known.property_of("multifd-channels") == "multifd-channels"
    assert known.property_of("postcopy-ram") == "x-postcopy-ram"
    assert known.property_of("validate-uuid") is None
    assert known.property_of("block-bitmap-mapping") is None
    assert known.capabilities[:3] == ("xbzrle", "rdma-pin-all", "auto-converge")
    assert known.properties["x-downtime-limit"]["default-value"] == 300


def test_qom_types(profile):
    assert profile.is_a("virtio-net-pci", "pci-device")
    assert profile.is_a("virtio-net-pci", "device")
    assert profile.is_a("iothread", "user-creatable")
    assert not profile.is_a("iothread", "device")
    assert not profile.is_a("nosuch", "device")
    assert profile.qom_types["pci-device"].abstract
    assert profile.root_of("user-creatable") == "interface"
    assert "memory-backend-file" in profile.implementors("user-creatable")
    assert set(profile.implementors("tpm-if")) == {"tpm-if", "tpm-crb", "tpm-tis"}
    assert profile.implementors("nosuch") == []


def test_object_add_types_are_user_creatable(profile):
    schema = {entry["name"]: entry for entry in profile.part("schema")}
    arguments = schema[schema["object-add"]["arg-type"]]
    tag = next(m["type"] for m in arguments["members"] if m["name"] == "qom-type")
    names = [m["name"] for m in schema[tag].get("members", [])] or schema[tag]["values"]
    creatable = set(profile.implementors("user-creatable"))
    present = [name for name in names if name in profile.qom_types]
    assert len(present) > 30
    assert set(present) <= creatable


def test_properties(profile):
    device = {p["name"]: p for p in profile.device_properties("virtio-net-pci")}
    assert device["rx_queue_size"]["default-value"] == 256
    assert any(p["name"] == "share" for p in profile.qom_properties("memory-backend-ram"))
    for missing in ("memory-backend-ram", "pci-device", "nosuch"):
        with pytest.raises(KeyError):
            profile.device_properties(missing)


def test_command_line_options(profile):
    options = {o.name: o for o in profile.command_line_options}
    assert options["machine"].takes_argument
    assert not options["nodefaults"].takes_argument
    assert options["incoming"].takes_argument
    assert {"qtest", "qtest-log", "no-fd-bootchk", "h"} <= set(options), "undocumented ones"
    assert not options["prom-env"].supported
    assert options["device"].supported
    assert ("singlestep" in options) is (profile.name in ("7.2", "8.2"))
    assert ("run-with" in options) is (profile.name != "7.2")


def test_human_monitor(profile):
    tables = profile.part("hmp-commands")
    names = {name for entry in tables["commands"] for name in entry["name"].split("|")}
    assert {"help", "?", "c", "cont", "device_del"} <= names
    infos = {entry["name"]: entry for entry in tables["info"]}
    assert infos["status"]["preconfig"]
    assert not infos["migrate"]["preconfig"]


def test_cpu_models(profile):
    names = {d["name"] for d in profile.cpu_definitions}
    assert {"qemu64", "max", "host", "base"} <= names
    full = profile.cpu_model_expansion("qemu64", "full")["return"]["model"]
    assert full["name"] == "qemu64"
    assert full["props"]["sse2"] is True
    for name in names:
        assert "return" in profile.cpu_model_expansion(name, "static")
    with pytest.raises(KeyError):
        profile.cpu_model_expansion("nosuch", "full")


def test_trees(profile):
    bare = profile.object_tree("none", defaults=True)
    assert bare.at("machine").type == "none-machine"
    q35 = profile.machine("q35").name
    lean = profile.object_tree(q35, defaults=False)
    full = profile.object_tree(q35, defaults=True)
    assert lean.at("machine/unattached/device[0]").type == "qemu64-x86_64-cpu"
    assert lean.at("machine/q35/pcie.0").type == "PCIE"
    types = {o.type for o in full.at("machine/unattached").children.values()}
    fewer = {o.type for o in lean.at("machine/unattached").children.values()}
    assert types - fewer >= {"e1000e", "VGA"}
    assert dict(lean.at("machine").properties)["unattached"].startswith("child<")
    with pytest.raises(KeyError):
        lean.at("machine/nosuch")


@pytest.mark.parametrize("name", RECORDED)
def test_every_machine_that_starts_has_trees_and_data(name):
    profile = Profile.load(name)
    names = {machine.name for machine in profile.machines}
    data = set(profile.part("machine-data").keys())
    assert names - data <= {"nitro"}
    for kind in ("defaults", "nodefaults"):
        assert set(profile.part("trees").keys(kind)) == data


@pytest.mark.parametrize("name", RECORDED)
def test_volatile_values_are_not_recorded(name):
    profile = Profile.load(name)
    tree = profile.object_tree(profile.machine("pc").name, defaults=True)
    machine = tree.at("machine")
    assert dict(machine.properties)["rtc-time"] == "struct tm"
    assert machine.values["rtc-time"] is None
    assert all(cpu["thread-id"] == 0 for cpu in profile.per_machine("pc-i440fx-7.2")["cpus"])


@pytest.mark.parametrize("name", RECORDED)
def test_writing_gives_the_same_content_again(name, tmp_path):
    folder = store.schemas_dir() / name
    files = sorted(folder.glob("*.gz"))
    assert len(files) > 10
    for file in files:
        part = file.name.partition(".")[0]
        value = store.read_part(folder, part)
        store.write_part(tmp_path, part, value.get() if part in store.PACKED else value)
        again = gzip.decompress((tmp_path / file.name).read_bytes())
        assert again == gzip.decompress(file.read_bytes()), part
        assert file.read_bytes()[4:8] == b"\0\0\0\0", "no time in the file"


def test_the_recordings_stay_small():
    size = sum(f.stat().st_size for f in store.schemas_dir().rglob("*.gz"))
    assert size < 6_000_000


def test_parts_are_read_when_first_asked_for():
    fresh = Profile("7.2", store.schemas_dir() / "7.2")
    assert fresh._parts == {}
    fresh.version  # noqa: B018
    assert set(fresh._parts) == {"version"}
