"""Command lines and what QEMU says of them; the texts were taken from the real binaries."""

from __future__ import annotations

import pytest

from fakeqemu.boot.cmdline.commandline import HANDLERS
from fakeqemu.boot.cmdline.options import parse_command_line
from fakeqemu.boot.error_report import EarlyExit
from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import StartupError

VERSIONS = ("7.2", "10.0", "11.1")
SIZE_HINT = (
    "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
    "and exabytes, respectively."
)
ID_HINT = "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter."

#: (arguments, text) the same in every version
EVERYWHERE = [
    ("-nope", "-nope: invalid option"),
    ("--nope", "--nope: invalid option"),
    ("---S", "---S: invalid option"),
    ("-machine=none", "-machine=none: invalid option"),
    ("-dfilter 0x8000+", "-dfilter 0x8000+: Invalid number to the right of +"),
    ("-dfilter x..1", "-dfilter x..1: Invalid number to the left of .."),
    ("-dfilter 0x9000..0x8000", "-dfilter 0x9000..0x8000: Invalid range"),
    ("-dfilter 0x8000+0", "-dfilter 0x8000+0: Invalid range"),
    ("-dfilter 0x8000", "-dfilter 0x8000: Bad range specifier"),
    ("-seed -1", "-seed -1: Invalid seed number: -1"),
    ("-seed 99999999999999999999",
     "-seed 99999999999999999999: Invalid seed number: 99999999999999999999"),
    ("-audio none,model=hda", "-audio none,model=hda: fakeqemu does not model '-audio model='"),
    ("-m bad -nope", "-nope: invalid option"),
    ("-S -machine", "-machine: requires an argument"),
    ("-m 0x", f"-m 0x: Parameter 'size' expects a non-negative number below 2^64\n{SIZE_HINT}"),
    ("-m 16E", "-m 16E: Value '16E' is out of range for parameter 'size'"),
    ("-m 64,nosuch=1", "-m 64,nosuch=1: Invalid parameter 'nosuch'"),
    ("-m 64,id=a", "-m 64,id=a: Invalid parameter 'id'"),
    ("-m slots=abc", "-m slots=abc: Parameter 'slots' expects a number"),
    ("-smp 2,cores", "-smp 2,cores: Expected '=' after parameter 'cores'"),
    ("-machine q35,,x", "-machine q35,,x: Invalid parameter ''"),
    ("-name a,b=c", "-name a,b=c: Invalid parameter 'b'"),
    ("-name a,debug-threads=x",
     "-name a,debug-threads=x: Parameter 'debug-threads' expects 'on' or 'off'"),
    ("-uuid nope", "-uuid nope: failed to parse UUID string: wrong format"),
    ("-rtc nope=1", "-rtc nope=1: Invalid parameter 'nope'"),
    ("-action reboot=nope",
     "-action reboot=nope: Parameter 'reboot' does not accept value 'nope'"),
    ("-watchdog-action nope",
     "-watchdog-action nope: Parameter 'watchdog' does not accept value 'nope'"),
    ("-global x=1", "-global x=1: Invalid parameter 'x'"),
    ("-global driver=x,property=y",
     "-global driver=x,property=y: options 'driver', 'property', and 'value' are required"),
    ("-set a", '-set a: can\'t parse: "a"'),
    ("-set machine.b.c=1", "-set machine.b.c=1: -set is not supported with machine"),
    ("-set device.b.c=1", '-set device.b.c=1: there is no device "b" defined'),
    ("-set a.b.c=1", "-set a.b.c=1: There is no option group 'a'"),
    ("-sandbox on,spawn=maybe", "-sandbox on,spawn=maybe: invalid argument for spawn"),
    ("-msg timestamp=perhaps",
     "-msg timestamp=perhaps: Parameter 'timestamp' expects 'on' or 'off'"),
    ("-compat deprecated-input=nosuch",
     "-compat deprecated-input=nosuch: "
     "Parameter 'deprecated-input' does not accept value 'nosuch'"),
    ("-compat help", "-compat help: Help is not available for this option"),
    ("-object iothread", "-object iothread: Parameter 'id' is missing"),
    ("-object nosuch,id=a",
     "-object nosuch,id=a: Parameter 'qom-type' does not accept value 'nosuch'"),
    ("-object iothread,id=1a",
     f"-object iothread,id=1a: Parameter 'id' expects an identifier\n{ID_HINT}"),
    ("-object iothread,id=a -object iothread,id=a",
     "-object iothread,id=a: Duplicate ID 'a' for object"),
    ("-object iothread,id=a,poll-max-ns=x",
     "-object iothread,id=a,poll-max-ns=x: Parameter 'poll-max-ns' expects an int64 value"),
    ("-object memory-backend-ram,id=m,size=x",
     "-object memory-backend-ram,id=m,size=x: Parameter 'size' expects a size value"),
    ("-object memory-backend-ram,id=m,size=1M,host-nodes=x",
     "-object memory-backend-ram,id=m,size=1M,host-nodes=x: "
     "Parameter 'host-nodes' expects a uint64 value or range"),
    ('-object {"qom-type":"iothread","id":"a","x":1}',
     '-object {"qom-type":"iothread","id":"a","x":1}: Parameter \'x\' is unexpected'),
    ("-blockdev null-co,node-name=a,size=x",
     "-blockdev null-co,node-name=a,size=x: Parameter 'size' expects integer"),
    ("-blockdev raw,node-name=a,file.x=1",
     "-blockdev raw,node-name=a,file.x=1: Parameter 'file.driver' is missing"),
    ("-netdev stream,id=a,addr.type=unix",
     "-netdev stream,id=a,addr.type=unix: Parameter 'addr.path' is missing"),
    ("-netdev user,id=a -netdev user,id=a",
     "-netdev user,id=a: Duplicate ID 'a' for netdev"),
    ("-device x,id=a -device y,id=a", "-device y,id=a: Duplicate ID 'a' for device"),
    ("-display nosuch", "-display nosuch: Parameter 'type' does not accept value 'nosuch'"),
    ("-display vnc", "-display vnc: VNC requires a display argument vnc=<display>"),
    ("-chardev null,id=c -chardev null,id=c", "-chardev null,id=c: Duplicate ID 'c' for chardev"),
    ("-chardev null,id=c,nosuch=1", "-chardev null,id=c,nosuch=1: Invalid parameter 'nosuch'"),
    ("-chardev null,id=c -qmp chardev:c -qmp chardev:c",
     "-qmp chardev:c: Duplicate ID 'c' for mon"),
    ("-qmp chardev:1x", "-qmp chardev:1x: Parameter 'id' expects an identifier"),
    ("-qmp tcp:localhost", "-qmp tcp:localhost: parse error: tcp:localhost"),
    ("-add-fd fd=0,set=1", "-add-fd fd=0,set=1: fd cannot be a standard I/O stream"),
    ("-append x -loadvm x -incoming defer", "-append only allowed with -kernel option"),
    ("-loadvm x -incoming defer",
     "'incoming' and 'loadvm' options are mutually exclusive"),
    ("-loadvm x -preconfig", "'preconfig' and 'loadvm' options are mutually exclusive"),
    ("-preconfig -incoming tcp:127.0.0.1:1", "'preconfig' supports '-incoming defer' only"),
    ("-daemonize -display curses", "curses display cannot be used with -daemonize"),
    ("-option-rom bootindex=1", "-option-rom bootindex=1: Option ROM file is not specified"),
]

#: (arguments, text by version; None: accepted)
DIFFERENT = [
    ("-m -1", {
        "7.2": f"-m -1: Parameter 'size' expects a non-negative number below 2^64\n{SIZE_HINT}",
        "10.0": "-m -1: Value '-1' is out of range for parameter 'size'",
        "11.1": "-m -1: Value '-1' is out of range for parameter 'size'",
    }),
    ("-overcommit mem-lock=maybe", {
        "7.2": "-overcommit mem-lock=maybe: Parameter 'mem-lock' expects 'on' or 'off'",
        "10.0": "-overcommit mem-lock=maybe: parameter 'mem-lock' expects one of "
                "'on', 'off', 'on-fault'",
        "11.1": "-overcommit mem-lock=maybe: parameter 'mem-lock' expects one of "
                "'on', 'off', 'on-fault'",
    }),
    ("-incoming foo:bar", {
        "7.2": None,
        "10.0": "-incoming foo:bar: unknown migration protocol: foo:bar",
        "11.1": "-incoming foo:bar: unknown migration protocol: foo:bar",
    }),
    ("-run-with exit-with-parent=on", {
        "7.2": "-run-with: invalid option",
        "10.0": "-run-with exit-with-parent=on: Invalid parameter 'exit-with-parent'",
        "11.1": None,
    }),
    ("-chardev socket,id=c,path=x,reconnect=1", {
        "7.2": None,
        "10.0": None,
        "11.1": "-chardev socket,id=c,path=x,reconnect=1: Invalid parameter 'reconnect'",
    }),
    ("-object {", {
        "7.2": "-object {: JSON parse error, premature EOI",
        "10.0": "-object {: JSON parse error, premature EOI",
        "11.1": "-object {: 1:2: JSON parse error, premature end of input",
    }),
    ("-dfilter 0x8000-0x10,0x1+2", dict.fromkeys(VERSIONS)),
    ("-seed 0x10", dict.fromkeys(VERSIONS)),
    ("-rotate 90", {
        "7.2": None, "10.0": "-rotate: invalid option", "11.1": "-rotate: invalid option",
    }),
    ("-rotate 45", {
        "7.2": "-rotate 45: only 90, 180, 270 deg rotation is available",
        "10.0": "-rotate: invalid option", "11.1": "-rotate: invalid option",
    }),
    ("-chroot /nowhere", {
        "7.2": None, "10.0": "-chroot: invalid option", "11.1": "-chroot: invalid option",
    }),
]


def refusal(arguments: str, version: str) -> StartupError | None:
    try:
        parse_command_line(arguments.split(" "), Profile.load(version))
    except StartupError as exc:
        return exc
    return None


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("arguments", "text"), EVERYWHERE)
def test_refused_everywhere(arguments: str, text: str, version: str) -> None:
    error = refusal(arguments, version)
    assert error is not None
    assert (error.message, error.code) == (text, 1)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("arguments", "texts"), DIFFERENT)
def test_refused_by_version(
    arguments: str, texts: dict[str, str | None], version: str
) -> None:
    error = refusal(arguments, version)
    assert (error and error.message) == texts[version]


def test_lines_before_the_last_are_kept() -> None:
    error = refusal("-qmp nosuch", "11.1")
    assert error is not None
    assert error.earlier == ("-qmp nosuch: 'nosuch' is not a valid char driver",)
    assert error.message == "-qmp nosuch: parse error: nosuch"


def test_flags_are_warned_of_before_they_are_refused() -> None:
    error = refusal("-global migration.x", "11.1")
    assert error is not None
    assert error.earlier == (
        "-global migration.x: warning: short-form boolean option 'migration.x' deprecated\n"
        "Please use migration.x=on instead",
    )
    assert error.message == "-global migration.x: Invalid parameter 'migration.x'"


@pytest.mark.parametrize(
    ("arguments", "code", "start"),
    [
        ("-version", 0, "QEMU emulator version 10.0."),
        ("-machine help", 0, "Supported machines are:\n"),
        ("-machine q35,help", 0, "pc-q35-10.0-machine options:\n"),
        ("-cpu help -machine nosuch", 0, "Available CPUs:\n"),
        ("-accel help", 0, "Accelerators supported in QEMU binary:\n"),
        ("-device help -accel nosuch", 0, "Controller/Bridge/Hub devices:\n"),
        ("-device virtio-rng-pci,help", 0, "virtio-rng-pci options:\n"),
        ("-object iothread,help", 0, "iothread options:\n  aio-max-batch=<int>\n"),
        ("-smp help", 0, "smp-opts options:\n  books=<num>\n"),
        ("-m 64,help", 1, "memory options:\n  maxmem=<size>\n"),
        ("-help", 0, "QEMU emulator version"),
    ],
)
def test_answers_and_leaves(arguments: str, code: int, start: str) -> None:
    with pytest.raises(EarlyExit) as caught:
        parse_command_line(arguments.split(" "), Profile.load("10.0"))
    assert caught.value.code == code
    assert caught.value.stdout.startswith(start)


def test_configuration_of_a_usual_command_line() -> None:
    arguments = (
        "--machine pc,graphics=off -machine type=q35 -smp 2 -smp cores=2 -m 64 -m slots=2 "
        "-name a,,b,process=p -name debug-threads=on -no-reboot -action panic=pause "
        "-global driver=x,property=y,value=1 -global a.b=c,,d -S -qmp unix:/s,server=on,wait=off "
        "-monitor none -serial null -device a,id=d -device {\"driver\":\"b\"} -netdev "
        "user,id=n,hostfwd=tcp::1-:2,hostfwd=tcp::3-:4 -nodefaults -L /x"
    )
    configuration = parse_command_line(arguments.split(" "), Profile.load("11.1"), "/bin/qemu-kvm")
    assert configuration.program == "qemu-kvm"
    assert configuration.machine_type == "q35"
    assert configuration.machine_options == {
        "graphics": "off", "smp": {"cpus": "2", "cores": "2"},
    }
    assert configuration.memory is not None
    assert configuration.memory.values == {"size": "64", "slots": "2"}
    assert configuration.name.guest == "a,b"
    assert configuration.name.process == "p"
    assert configuration.name.debug_threads
    assert configuration.action == {"reboot": "shutdown", "panic": "pause"}
    assert [(g.driver, g.property, g.value) for g in configuration.globals] == [
        ("x", "y", "1"), ("a", "b", "c,,d"),
    ]
    assert not configuration.autostart
    assert not configuration.has_defaults
    assert [m.values["chardev"] for m in configuration.monitors] == ["compat_monitor0"]
    assert configuration.chardevs[0].values["path"] == "/s"
    assert [d.values["driver"] for d in configuration.devices] == ["a", "b"]
    assert [pair for pair in configuration.netdevs[0].pairs if pair[0] == "hostfwd"] == [
        ("hostfwd", "tcp::1-:2"), ("hostfwd", "tcp::3-:4"),
    ]
    assert configuration.data_directories == ["/x"]


def test_the_last_incoming_of_each_kind_counts() -> None:
    channel = '{"channel-type":"cpr","addr":{"transport":"socket","type":"unix","path":"/c"}}'
    arguments = ["-incoming", "tcp:h:1", "-incoming", channel, "-incoming", "defer"]
    configuration = parse_command_line(arguments, Profile.load("11.1"))
    assert configuration.main_incoming is not None
    assert configuration.main_incoming.is_defer
    assert configuration.cpr_incoming is not None
    assert configuration.cpr_incoming.channel is not None
    assert configuration.cpr_incoming.channel["addr"]["path"] == "/c"


class FakeFiles:
    """A file system with one configuration file."""

    def __init__(self, *, audio: bool = False) -> None:
        self.written: dict[str, bytes] = {}
        self.audio = audio

    def read(self, path: str) -> str:
        if path != "conf":
            raise FileNotFoundError(2, "No such file or directory")
        return '# ours\n[chardev "c"]\n  backend = "null"\n\n[machine]\n  type = "none"\n'

    def create(self, path: str) -> None:
        raise PermissionError(13, "Permission denied")

    def write_private(self, path: str, data: bytes) -> None:
        if path.startswith("/tmp"):
            raise PermissionError(13, "Permission denied")
        self.written[path] = data

    def monotonic_ns(self) -> int:
        return 5

    def process_id(self) -> int:
        return 77

    def has_audio_environment(self) -> bool:
        return self.audio

    def user_exists(self, name: str) -> bool:
        return name == "someone"

    def fd_inherited(self, fd: int) -> bool:
        return fd == 5


def test_files_for_those_who_measure_translated_code() -> None:
    files = FakeFiles()
    configuration = parse_command_line(
        ["-jitdump", "-perfmap"], Profile.load("10.0"), files=files
    )
    (header,) = files.written.values()
    assert header[:16] == b"DTiJ" + bytes((1, 0, 0, 0, 40, 0, 0, 0, 62, 0, 0, 0))
    assert configuration.warnings == [
        "-perfmap: warning: Could not open /tmp/perf-77.map: Permission denied,"
        " proceeding without perfmap"
    ]


def test_audio_help_lists_the_drivers_there_are() -> None:
    with pytest.raises(EarlyExit) as found:
        parse_command_line(["-audio-help"], Profile.load("7.2"), files=FakeFiles())
    assert found.value.code == 0
    assert "-audiodev id=none,driver=none\n" in found.value.stdout
    with pytest.raises(StartupError, match="does not model"):
        parse_command_line(["-audio-help"], Profile.load("7.2"), files=FakeFiles(audio=True))


def test_an_option_that_nobody_handles_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(HANDLERS, "win2k-hack")
    with pytest.raises(StartupError, match="fakeqemu does not model '-win2k-hack'"):
        parse_command_line(["-win2k-hack"], Profile.load("7.2"))


def test_readconfig() -> None:
    configuration = parse_command_line(
        ["-readconfig", "conf", "-mon", "c"], Profile.load("10.0"), files=FakeFiles()
    )
    assert configuration.machine_type == "none"
    assert [(c.id, c.values["backend"]) for c in configuration.chardevs] == [("c", "null")]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("-readconfig no", "-readconfig no: Could not open 'no': No such file or directory"),
        ("-D log", "Error opening logfile log: Permission denied"),
        ("-run-with user=x",
         '-run-with user=x: User "user=x" doesn\'t exist (and is not <uid>:<gid>)'),
        ("-add-fd fd=6,set=1", "-add-fd fd=6,set=1: fd is not valid or already in use"),
        ("-add-fd fd=5", "-add-fd fd=5: set option is required and must be non-negative"),
    ],
)
def test_what_the_host_refuses(arguments: str, text: str) -> None:
    with pytest.raises(StartupError) as caught:
        parse_command_line(arguments.split(" "), Profile.load("10.0"), files=FakeFiles())
    assert caught.value.message == text
