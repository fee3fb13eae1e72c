"""What the boot steps ask about a command line, in the words of the real binaries."""

from __future__ import annotations

import pytest

from fakeqemu.boot.chardevs import chardev_options, monitor_options
from fakeqemu.boot.checks import (
    backends as backendchecks,
    board as boardchecks,
    machine_properties,
    options as checks,
)
from fakeqemu.boot.cmdline.options import parse_command_line
from fakeqemu.boot.default_devices import add_default_devices
from fakeqemu.boot.error_report import Messages
from fakeqemu.boot.serials import legacy_device
from fakeqemu.configuration import Configuration
from fakeqemu.model.null_host import NullHost
from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import QapiError, StartupError


def configuration_of(arguments: str, version: str = "10.0") -> Configuration:
    return parse_command_line(arguments.split(" "), Profile.load(version))


def settings_of(arguments: str, version: str = "10.0") -> machine_properties.MachineSettings:
    profile = Profile.load(version)
    configuration = configuration_of(arguments, version)
    checks.merge_memory(configuration, profile)
    machine = checks.select_machine(configuration, profile)
    return machine_properties.apply_machine_options(configuration, profile, machine, Messages())


@pytest.mark.parametrize(
    ("arguments", "version", "text"),
    [
        ("-machine q35,nosuch=1", "10.0", "Property 'pc-q35-10.0-machine.nosuch' not found"),
        ("-machine none,x.y=2", "11.1", "Property 'none-machine.x' not found"),
        ("-machine none,graphics.y=2", "11.1", "Parameters 'graphics.*' are unexpected"),
        ("-machine q35,graphics=maybe", "7.2", "Parameter 'graphics' expects 'on' or 'off'"),
        ("-machine q35,acpi=maybe", "7.2", "Parameter 'acpi' does not accept value 'maybe'"),
        ("-machine q35,phandle-start=x", "7.2", "Parameter 'phandle-start' expects integer"),
        ("-machine q35,max-ram-below-4g=8G", "11.1",
         "Machine option 'max-ram-below-4g=8589934592' expects size less than or equal to 4G"),
        ("-machine q35,smp=2", "11.1", "Invalid parameter type for 'smp', expected: object"),
        ("-smp abc", "11.1", "Parameter 'smp.cpus' expects integer"),
        ("-smp 2,nosuch=3", "11.1", "Parameter 'smp.nosuch' is unexpected"),
        ("-boot order=q", "11.1", "Invalid boot device 'q'"),
        ("-boot cc", "11.1", "Boot device 'c' was given twice"),
        ("-smp 0 -boot q", "11.1", "Invalid boot device 'q'"),
        ("-boot menu=x", "11.1", "Parameter 'boot.menu' expects 'on' or 'off'"),
        ("-machine none -smp 2", "11.1",
         "Invalid SMP CPUs 2. The max CPUs supported by machine 'none' is 1"),
        ("-machine q35 -smp -1", "10.0",
         "Invalid SMP CPUs -1. The max CPUs supported by machine 'pc-q35-10.0' is 4096"),
        ("-smp 0", "10.0",
         "Invalid CPU topology: CPU topology parameters must be greater than zero"),
        ("-smp 8,clusters=2", "7.2", "clusters not supported by this machine's CPU topology"),
        ("-smp 8,clusters=2", "10.0",
         "clusters > 1 not supported by this machine's CPU topology"),
        ("-machine q35 -smp 2,sockets=3", "7.2",
         "Invalid CPU topology: product of the hierarchy must match maxcpus: "
         "sockets (3) * dies (1) * cores (0) * threads (1) != maxcpus (2)"),
        ("-machine q35 -smp 2,sockets=3", "10.0",
         "Invalid CPU topology: product of the hierarchy must match maxcpus: "
         "sockets (3) * dies (1) * modules (1) * cores (0) * threads (1) != maxcpus (2)"),
        ("-machine none -smp 2,sockets=3", "10.0",
         "Invalid CPU topology: product of the hierarchy must match maxcpus: "
         "sockets (3) * cores (0) * threads (1) != maxcpus (2)"),
        ("-machine q35 -smp 2,maxcpus=1", "10.0",
         "Invalid CPU topology: maxcpus must be equal to or greater than smp: "
         "sockets (1) * dies (1) * modules (1) * cores (1) * threads (1) == maxcpus (1) "
         "< smp_cpus (2)"),
        ("-m size=64,slots=2", "10.0", "slots specified but no max-size"),
        ("-m size=64,maxmem=32", "10.0",
         "invalid value of maxmem: maximum memory size (0x20) must be at least the initial "
         "memory size (0x4000000)"),
        ("-m size=64M,maxmem=64M,slots=1", "10.0",
         "invalid value of maxmem: memory slots were specified but maximum memory size "
         "(0x4000000) is equal to the initial memory size (0x4000000)"),
        ("-machine q35,kernel_irqchip=on,kernel-irqchip=off", "10.0",
         "Conflict between 'kernel_irqchip' and 'kernel-irqchip'"),
    ],
)
def test_machine_options_refused(arguments: str, version: str, text: str) -> None:
    with pytest.raises((QapiError, StartupError)) as caught:
        settings_of(arguments, version)
    assert str(caught.value) == text


def test_machine_options() -> None:
    settings = settings_of("-machine q35,graphics=off,accel=tcg -smp 4,cores=2 -m 64,maxmem=1G")
    assert settings.properties["graphics"] is False
    assert (settings.ram_size, settings.maxram_size) == (64 << 20, 1 << 30)
    assert (settings.topology.cpus, settings.topology.levels["sockets"]) == (4, 2)
    assert settings.accelerators == "tcg"


def test_a_zero_in_smp_was_once_a_warning() -> None:
    profile = Profile.load("7.2")
    configuration = configuration_of("-machine q35 -smp 0", "7.2")
    messages = Messages()
    machine = profile.machine("q35")
    machine_properties.apply_machine_options(configuration, profile, machine, messages)
    assert messages.lines == [
        "warning: Deprecated CPU topology (considered invalid): "
        "CPU topology parameters must be greater than zero"
    ]


@pytest.mark.parametrize(
    ("version", "text"),
    [("7.2", "unsupported machine type"), ("10.0", 'unsupported machine type: "nosuch"')],
)
def test_unknown_machine_type(version: str, text: str) -> None:
    with pytest.raises(StartupError) as caught:
        checks.select_machine(configuration_of("-machine nosuch"), Profile.load(version))
    assert caught.value.message == f"{text}\nUse -machine help to list supported machines"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("-rtc base=nope",
         "invalid datetime format\nvalid formats: '2006-06-17T16:01:21' or '2006-06-17'"),
        ("-rtc clock=nope", "invalid option value 'nope'"),
    ],
)
def test_clock(arguments: str, text: str) -> None:
    with pytest.raises(StartupError) as caught:
        checks.check_clock(configuration_of(arguments))
    assert caught.value.message == text


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        ("-accel nosuch", ["-accel nosuch: invalid accelerator nosuch"]),
        ("-accel a -accel b",
         ["-accel a: invalid accelerator a", "-accel b: invalid accelerator b"]),
        ("-machine accel=nosuch", ["invalid accelerator nosuch"]),
        ("-machine accel=", ["no accelerator found"]),
        ("-accel tcg -enable-kvm",
         ['The -accel and "-machine accel=" options are incompatible']),
        ("-accel tcg,nosuch=1", ["-accel tcg,nosuch=1: Property 'tcg-accel.nosuch' not found"]),
        ("-accel tcg,thread=nosuch",
         ["-accel tcg,thread=nosuch: Invalid 'thread' setting nosuch"]),
        ("-accel kvm,dirty-ring-size=3",
         ["-accel kvm,dirty-ring-size=3: dirty-ring-size must be a power of two."]),
        ("-accel kvm", [
            "Could not access KVM kernel module: No such file or directory",
            "-accel kvm: failed to initialize kvm: No such file or directory",
        ]),
    ],
)
def test_accelerator_refused(arguments: str, lines: list[str]) -> None:
    configuration = configuration_of(arguments)
    asked = configuration.machine_options.get("accel")
    with pytest.raises(StartupError) as caught:
        profile, host = Profile.load("10.0"), NullHost()
        checks.choose_accelerator(configuration, profile, host, Messages(), asked)
    assert [*caught.value.earlier, caught.value.message] == lines


def test_accelerator_falls_back() -> None:
    messages = Messages()
    chosen = checks.choose_accelerator(
        configuration_of("-accel nosuch -accel tcg,thread=single"), Profile.load("10.0"),
        NullHost(), messages,
    )
    assert (chosen.name, chosen.properties) == ("tcg", {"thread": "single"})
    assert messages.lines[-1] == "falling back to tcg"


@pytest.mark.parametrize(
    ("cpu", "text"),
    [
        ("nosuch", "unable to find CPU model 'nosuch'"),
        ("", "-cpu option cannot be empty"),
        ("host", "CPU model 'host' requires KVM or HVF"),
        ("qemu64,nosuch=1", "can't apply global qemu64-x86_64-cpu.nosuch=1: "
                            "Property 'qemu64-x86_64-cpu.nosuch' not found"),
        ("qemu64,+nosuch", "Property 'qemu64-x86_64-cpu.nosuch' not found"),
        ("qemu64,level=x", "can't apply global qemu64-x86_64-cpu.level=x: "
                           "Parameter 'level' expects uint64"),
    ],
)
def test_cpu_model_refused(cpu: str, text: str) -> None:
    profile = Profile.load("10.0")
    configuration = Configuration(cpu=cpu)
    with pytest.raises((QapiError, StartupError)) as caught:
        model = checks.choose_cpu_model(configuration, profile, profile.machine("q35"))
        assert model is not None
        checks.check_cpu_features(model, "tcg", profile)
    assert str(caught.value) == text


def test_cpu_features() -> None:
    profile = Profile.load("10.0")
    model = checks.choose_cpu_model(
        Configuration(cpu="qemu64,level=7,+avx,-sse3"), profile, profile.machine("q35")
    )
    assert model is not None
    assert checks.check_cpu_features(model, "tcg", profile) == {
        "level": 7, "avx": True, "sse3": False,
    }


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("-chardev null", "-chardev null: chardev: no id specified"),
        ("-chardev id=c", '-chardev id=c: chardev: "c" missing backend'),
        ("-chardev nosuch,id=c",
         "-chardev nosuch,id=c: 'nosuch' is not a valid char driver name"),
        ("-chardev socket,id=c,host=a",
         "-chardev socket,id=c,host=a: chardev: socket: no port given"),
        ("-chardev socket,id=c,host=a,path=b,port=1",
         "-chardev socket,id=c,host=a,path=b,port=1: "
         "None or one of 'path', 'fd' or 'host' option required."),
        ("-chardev udp,id=c", "-chardev udp,id=c: chardev: udp: remote port not specified"),
        ("-chardev file,id=c", "-chardev file,id=c: chardev: file: no filename given"),
        ("-chardev pipe,id=c", "-chardev pipe,id=c: chardev: pipe: no device path given"),
        ("-chardev mux,id=c", "-chardev mux,id=c: chardev: mux: no chardev given"),
        ("-chardev hub,id=c", "-chardev hub,id=c: hub: 'chardevs' list is not defined"),
    ],
)
def test_chardev_refused(arguments: str, text: str) -> None:
    with pytest.raises(StartupError) as caught:
        chardev_options(configuration_of(arguments).chardevs[0], Profile.load("10.0"))
    assert caught.value.message == text


def options_of(arguments: str) -> list[tuple[str, str, dict[str, object]]]:
    entry = configuration_of(arguments).chardevs[0]
    return [(o.id, o.backend, o.options) for o in chardev_options(entry, Profile.load("10.0"))]


def test_chardev_options() -> None:
    assert options_of("-qmp tcp:h:1,server,nowait") == [
        ("compat_monitor0", "socket", {
            "logappend": False,
            "addr": {"type": "inet", "data": {"host": "h", "port": "1"}},
            "server": True, "wait": False,
        }),
    ]
    assert options_of("-chardev socket,id=c,path=/s,reconnect=3")[0][2] == {
        "logappend": False,
        "addr": {"type": "unix", "data": {"path": "/s", "tight": True, "abstract": False}},
        "server": False, "reconnect": 3,
    }
    assert options_of("-chardev ringbuf,id=c,size=4k,mux=on") == [
        ("c-base", "ringbuf", {"logappend": False, "size": 4096}),
        ("c", "mux", {"chardev": "c-base"}),
    ]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("-mon nosuch", 'chardev "nosuch" not found'),
        ("-mon mode=control", "Parameter 'chardev' is missing"),
        ("-mon c,mode=nosuch", "Parameter 'mode' does not accept value 'nosuch'"),
        ("-mon c,pretty=on", "'pretty' is not compatible with HMP monitors"),
    ],
)
def test_monitor_refused(arguments: str, text: str) -> None:
    with pytest.raises(StartupError) as caught:
        monitor_options(configuration_of(arguments).monitors[0], {"c"})
    assert caught.value.message == f"{arguments}: {text}"


def test_serial() -> None:
    profile = Profile.load("10.0")
    configuration = configuration_of("-serial mon:stdio -serial none -serial nosuch")
    first, second = (
        legacy_device(entry, index, configuration, profile)
        for index, entry in enumerate(configuration.serials[:2])
    )
    assert first.monitor
    assert [(o.id, o.backend) for o in first.make] == [
        ("serial0-base", "stdio"), ("serial0", "mux"),
    ]
    assert second.chardev is None
    with pytest.raises(StartupError) as caught:
        legacy_device(configuration.serials[2], 2, configuration, profile)
    assert caught.value.earlier == ("-serial nosuch: 'nosuch' is not a valid char driver",)
    assert caught.value.message == (
        "-serial nosuch: could not connect serial device to character backend 'nosuch'"
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("-netdev nosuch,id=a", "Parameter 'type' does not accept value 'nosuch'"),
        ("-netdev user", "Parameter 'id' is missing"),
        ("-netdev user,id=a,nosuch=1", "Invalid parameter 'nosuch'"),
        ("-netdev hubport,id=a,hubid=99999999999", "Parameter 'hubid' expects int32_t"),
        ("-netdev hubport,id=a,hubid=x", "Parameter 'hubid' expects an int64 value"),
        ("-netdev user,id=a,restrict=maybe", "Parameter 'restrict' expects 'on' or 'off'"),
    ],
)
def test_netdev_refused(arguments: str, text: str) -> None:
    with pytest.raises(StartupError) as caught:
        backendchecks.netdev_arguments(
            configuration_of(arguments).netdevs[0], Profile.load("10.0")
        )
    assert caught.value.message == f"{arguments}: {text}"


def test_netdev_lists_are_repeated_keys() -> None:
    entry = configuration_of("-netdev user,id=a,hostfwd=x,hostfwd=y,dns=1.2.3.4").netdevs[0]
    assert backendchecks.netdev_arguments(entry, Profile.load("10.0")) == {
        "id": "a", "type": "user", "dns": "1.2.3.4",
        "hostfwd": [{"str": "x"}, {"str": "y"}],
    }


def test_default_devices() -> None:
    profile = Profile.load("10.0")
    configuration = configuration_of("-machine q35 -display none")
    add_default_devices(configuration, profile, profile.machine("q35"))
    assert [(s.option, s.text) for s in configuration.serials] == [
        ("serial", "vc:80Cx24C"), ("parallel", "vc:80Cx24C"),
    ]
    assert [c.id for c in configuration.chardevs] == ["compat_monitor0"]
    configuration = configuration_of("-machine q35 -nographic -qmp null")
    add_default_devices(configuration, profile, profile.machine("q35"))
    assert [(s.option, s.text) for s in configuration.serials] == [
        ("parallel", "null"), ("serial", "stdio"),
    ]
    configuration = configuration_of("-machine q35 -nographic -daemonize")
    with pytest.raises(StartupError) as caught:
        add_default_devices(configuration, profile, profile.machine("q35"))
    assert caught.value.message == "-nographic cannot be used with -daemonize"


def test_board() -> None:
    profile = Profile.load("10.0")
    for arguments, text in (
        ("-machine q35 -m 64M,maxmem=1G,slots=257", "unsupported amount of memory slots: 257"),
        ("-machine q35 -boot splash-time=70000",
         "splash-time is invalid,it should be a value between 0 and 65535"),
        ("-machine none -kernel x", "The -kernel parameter is not supported "
                                    "(use the generic 'loader' device instead)."),
    ):
        configuration = configuration_of(arguments)
        machine = checks.select_machine(configuration, profile)
        with pytest.raises(StartupError) as caught:
            boardchecks.check_board(configuration, machine, settings_of(arguments), profile)
        assert caught.value.message == text
