"""Everything the command line said, as plain data: what the boot sequence reads.

Nothing here decides anything. `boot.options` fills it in one walk over argv; the boot
steps read it in QEMU's order, so that each fault is found at the step where QEMU finds it.
Every option keeps its *location*, the text QEMU puts before an error about it
(`-device nosuch`), because most options are only judged long after they were read.

See system/vl.c: qemu_init().
"""

from __future__ import annotations

from typing import Any, Literal

from fakeqemu.dataclass import dataclass, field


@dataclass(slots=True)
class OptionString:
    """One use of an option, kept as QEMU keeps it: in order, with its location."""

    #: the option's name without dashes: "device"
    option: str
    #: the argument as given; "" for a flag
    text: str
    #: what QEMU prints before an error about it: "-device nosuch"
    location: str
    #: the parsed form: key -> text for key=value options, JSON or typed values otherwise
    values: dict[str, Any] = field(default_factory=dict)
    #: every key and text in the order given, repeated keys included (key=value options)
    pairs: tuple[tuple[str, str], ...] = ()
    #: whether `values` came from JSON (typed) rather than key=value (texts)
    json: bool = False

    @property
    def id(self) -> str | None:
        """The `id` given, if any."""
        value = self.values.get("id")
        return value if isinstance(value, str) else None


@dataclass(frozen=True, slots=True)
class GlobalProperty:
    """One `-global`, or a property that another option stands for."""

    #: QOM type it applies to
    driver: str
    property: str
    #: always text, parsed when an object of the type is made
    value: str
    #: "-global migration.x=1"; errors on applying do not use it
    location: str = ""


@dataclass(frozen=True, slots=True)
class MonitorOptions:
    """One monitor as the step that makes monitors sees it; see `boot.chardevs.monitor_options`."""

    #: the character device it sits on
    chardev: str
    mode: Literal["control", "readline"]
    location: str
    pretty: bool = False
    #: its own id; None when not given
    id: str | None = None


@dataclass(frozen=True, slots=True)
class IncomingChannel:
    """Listen or read here."""

    #: a MigrationChannel as QMP shows it
    channel: dict[str, Any]
    #: parameters that came with it, as `EarlyConfig` has them
    parameters: dict[str, Any] | None = None

    @property
    def channel_type(self) -> str:
        """`main` or `cpr`."""
        kind: str = self.channel["channel-type"]
        return kind

    @property
    def address(self) -> dict[str, Any]:
        """The MigrationAddress."""
        address: dict[str, Any] = self.channel["addr"]
        return address


@dataclass(frozen=True, slots=True)
class Defer:
    """Wait for migrate-incoming."""

    #: parameters that came with it, as `EarlyConfig` has them
    parameters: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class EarlyConfig:
    """Migration parameters, for now and for the migration object."""

    #: checked and typed as migrate-set-parameters takes them
    values: dict[str, Any]


@dataclass(slots=True)
class IncomingOption:
    """One `-incoming`."""

    text: str
    location: str
    #: what the option parser made of it; None where it is only parsed when it starts
    parsed: IncomingChannel | Defer | EarlyConfig | None = None
    #: "incoming", or one of the options that were proposed in its place
    option: str = "incoming"
    #: whether the process ends when the migration fails
    exit_on_error: bool = True

    @property
    def form(self) -> str:
        """`defer`, `channel`, `config`, or `uri` where it is not parsed yet."""
        if self.is_defer:
            return "defer"
        if self.parsed is None:
            return "uri"
        return "config" if isinstance(self.parsed, EarlyConfig) else "channel"

    @property
    def is_defer(self) -> bool:
        """Whether migrate-incoming will say where from."""
        return isinstance(self.parsed, Defer) or self.text == "defer"

    @property
    def channel_type(self) -> str:
        """`main`, `cpr`, or `config` for early parameters."""
        if isinstance(self.parsed, EarlyConfig):
            return "config"
        return self.parsed.channel_type if isinstance(self.parsed, IncomingChannel) else "main"

    @property
    def channel(self) -> dict[str, Any] | None:
        """The MigrationChannel, once parsed."""
        return self.parsed.channel if isinstance(self.parsed, IncomingChannel) else None

    @property
    def early_values(self) -> dict[str, Any] | None:
        """Parameters that it has, alone or with a channel; None where there are none."""
        if isinstance(self.parsed, IncomingChannel | Defer):
            return self.parsed.parameters
        return self.parsed.values if isinstance(self.parsed, EarlyConfig) else None


@dataclass(slots=True)
class NameOptions:
    """-name."""

    guest: str | None = None
    process: str | None = None
    debug_threads: bool = False


@dataclass(slots=True)
class MessageOptions:
    """-msg."""

    timestamp: bool = False
    guest_name: bool = False


@dataclass(slots=True)
class Defaults:
    """Which devices QEMU would add by itself; False once an option took the place.

    Further ones fall away by -device, and all by -nodefaults: see `checks.default_devices`.
    """

    monitor: bool = True
    serial: bool = True
    parallel: bool = True
    floppy: bool = True
    cdrom: bool = True
    vga: bool = True
    net: bool = True
    audio: bool = True


@dataclass(eq=False, repr=False)
class Configuration:
    """One parsed command line."""

    # -- the command line itself -------------------------------------------------------------
    #: arguments after the program's name
    argv: list[str] = field(default_factory=list)
    #: what stands before each message: the base name of argv[0]
    program: str = "qemu-system-x86_64"
    #: lines for standard error that need no exit, location included, in order
    warnings: list[str] = field(default_factory=list)
    #: lines for standard output that need no exit
    printed: list[str] = field(default_factory=list)

    # -- machine -----------------------------------------------------------------------------
    #: machine type as asked for (name or alias); None: the default
    machine_type: str | None = None
    #: machine properties in order of first use, merged over all -machine, and from the options
    #: that stand for one (-kernel, -smp as "smp", -boot as "boot", -m as "memory", -usb);
    #: values are texts or nested dicts of texts. Without "type"; with "accel" and the other
    #: legacy names until the step that takes them out.
    machine_options: dict[str, Any] = field(default_factory=dict)
    #: -accel, in order
    accelerators: list[OptionString] = field(default_factory=list)
    #: -cpu as given
    cpu: str | None = None
    #: -m: size, slots, maxmem as texts; they join `machine_options` before the machine is made
    memory: OptionString | None = None
    mem_path: str | None = None
    mem_prealloc: bool = False
    #: -numa, in order
    numa: list[OptionString] = field(default_factory=list)
    uuid: str | None = None
    name: NameOptions = field(default_factory=NameOptions)
    rtc: dict[str, str] = field(default_factory=dict)
    icount: OptionString | None = None
    compat_policy: dict[str, str] = field(default_factory=dict)

    # -- how to start ------------------------------------------------------------------------
    #: False with -S
    autostart: bool = True
    preconfig: bool = False
    #: early parameters as the patches were posted, not as they were meant
    as_posted: bool = False
    incoming: list[IncomingOption] = field(default_factory=list)
    #: early parameters of options other than -incoming, in order
    early_parameters: list[OptionString] = field(default_factory=list)
    #: -migrate-prepare: migrate_prepare's arguments, as given; None without it
    prepare: OptionString | None = None
    loadvm: str | None = None
    only_migratable: bool = False
    snapshot: bool = False
    #: "reboot", "shutdown", "panic", "watchdog" -> action, those that were set: set-action's
    #: arguments, checked
    action: dict[str, str] = field(default_factory=dict)
    globals: list[GlobalProperty] = field(default_factory=list)

    # -- the process -------------------------------------------------------------------------
    daemonize: bool = False
    pidfile: str | None = None
    chroot: str | None = None
    runas: str | None = None
    #: -run-with, merged
    run_with: dict[str, str] = field(default_factory=dict)
    sandbox: list[OptionString] = field(default_factory=list)
    overcommit: dict[str, str] = field(default_factory=dict)
    message: MessageOptions = field(default_factory=MessageOptions)
    #: -echr: the byte that starts a command on a terminal shared with a monitor
    escape: int = 1
    #: -plugin, in order
    plugins: list[OptionString] = field(default_factory=list)
    #: -L, in order
    data_directories: list[str] = field(default_factory=list)
    #: -d
    log_items: str | None = None
    #: -D
    log_file: str | None = None
    trace: list[OptionString] = field(default_factory=list)
    #: what was done with the command line before there was a machine, in order
    passes: list[str] = field(default_factory=list)
    #: -d tid: each thread has a log file of its own
    log_per_thread: bool = False
    #: patterns of trace events, by -trace and -d, in order; one that starts with "-" switches off
    trace_patterns: list[str] = field(default_factory=list)
    qtest: str | None = None
    qtest_log: str | None = None
    add_fd: list[OptionString] = field(default_factory=list)
    no_user_config: bool = False
    #: -singlestep: one instruction is translated at a time
    single_step: bool = False
    #: -enable-sync-profile
    sync_profile: bool = False
    #: -k
    keyboard_layout: str | None = None

    # -- backends and devices ----------------------------------------------------------------
    #: False with -nodefaults
    has_defaults: bool = True
    defaults: Defaults = field(default_factory=Defaults)
    #: -chardev and those made by -qmp, -qmp-pretty, -monitor, in creation order; judged one by
    #: one when created, by `boot.chardevs.chardev_options`
    chardevs: list[OptionString] = field(default_factory=list)
    #: -mon, -qmp, -qmp-pretty, -monitor in order; judged when attached, by
    #: `boot.chardevs.monitor_options`
    monitors: list[OptionString] = field(default_factory=list)
    #: -serial, -parallel, -debugcon as given; their character devices are made after the
    #: monitors, by `boot.serials.legacy_device`
    serials: list[OptionString] = field(default_factory=list)
    #: -device as key=value, then as JSON: QEMU creates all of the first kind before the second
    devices: list[OptionString] = field(default_factory=list)
    #: -object in order, `values` checked and typed as object-add's arguments
    objects: list[OptionString] = field(default_factory=list)
    #: -netdev in the newer syntax (stream, dgram, JSON: `json`, `values` are netdev_add's
    #: arguments), then the others: texts, judged by `backendchecks.netdev_arguments`
    netdevs: list[OptionString] = field(default_factory=list)
    #: -nic in order
    nics: list[OptionString] = field(default_factory=list)
    #: -net in order, after all -nic
    nets: list[OptionString] = field(default_factory=list)
    #: -blockdev, `values` checked and typed as blockdev-add's arguments
    blockdevs: list[OptionString] = field(default_factory=list)
    #: -drive, -hda, -cdrom, positional images, ... in order
    drives: list[OptionString] = field(default_factory=list)
    audiodevs: list[OptionString] = field(default_factory=list)
    fw_cfg: list[OptionString] = field(default_factory=list)
    #: -smbios; `values` of those from a file have the `type` that it begins with
    smbios: list[OptionString] = field(default_factory=list)
    #: what each -acpitable gives
    acpi_tables: list[bytes] = field(default_factory=list)
    option_roms: list[OptionString] = field(default_factory=list)
    tpmdevs: list[OptionString] = field(default_factory=list)
    fsdevs: list[OptionString] = field(default_factory=list)
    vnc: list[OptionString] = field(default_factory=list)
    spice: list[OptionString] = field(default_factory=list)
    #: -gdb and -s
    gdb: list[OptionString] = field(default_factory=list)
    usb_devices: list[OptionString] = field(default_factory=list)

    # -- display -----------------------------------------------------------------------------
    #: DisplayOptions as query-display-options shows them; {} when nothing was asked for
    display: dict[str, Any] = field(default_factory=dict)
    nographic: bool = False
    vga: str | None = None

    @property
    def main_incoming(self) -> IncomingOption | None:
        """The `-incoming` that counts for the main channel: the last one."""
        return next((i for i in reversed(self.incoming) if i.channel_type == "main"), None)

    @property
    def cpr_incoming(self) -> IncomingOption | None:
        """The `-incoming` that counts for the CPR channel: the last one."""
        return next((i for i in reversed(self.incoming) if i.channel_type == "cpr"), None)
