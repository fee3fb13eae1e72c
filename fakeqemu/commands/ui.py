"""Commands of QAPI's ui module: VNC displays, pictures of consoles, input.

SPICE is never there: what asks for it is refused as QEMU refuses it where nobody asked for it.

See qapi/ui.json; ui/vnc.c: qmp_query_vnc(); ui/ui-qmp-cmds.c: qmp_set_password() and
qmp_screendump(); monitor/qmp-cmds.c: qmp_add_client(); ui/input-legacy.c: qmp_send_key();
ui/input.c: qmp_input_send_event().
"""

from __future__ import annotations

from typing import Any, NoReturn

from fakeqemu.commands.registry import actions, command, commands
from fakeqemu.formats.image import png, ppm
from fakeqemu.formats.rfb import NONE
from fakeqemu.model.machine import Machine
from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import (
    DeviceNotActiveError,
    NotModelledError,
    QapiError,
)
from fakeqemu.qapi.readers.scalars import parse_uint64

Json = dict[str, Any]


def _needs_spice() -> NoReturn:
    """SPICE is never in use. Raises QapiError."""
    raise DeviceNotActiveError("SPICE is not in use")


@command("query-vnc")
def query_vnc(vm: Machine) -> Json:
    """VncInfo, of the first display."""
    display = vm.vnc.find()
    return display.info() if display is not None else {"enabled": False}


@command("query-vnc-servers")
def query_vnc_servers(vm: Machine) -> list[Json]:
    """VncInfo2 list."""
    return [display.info2() for display in reversed(vm.vnc.all)]


def set_vnc_password(vm: Machine, display: str | None, password: str) -> None:
    """Change a VNC display's password. QapiError, perhaps with a hint."""
    found, traits = vm.vnc.find(display), vm.profile.traits
    if found is None:
        raise QapiError(traits.no_vnc_for_password, "To enable it, use '-vnc ...'")
    if found.auth == NONE:
        hint = "To enable it, use '-vnc ...,password-secret=ID'"
        raise QapiError(traits.vnc_without_password, hint)
    found.password = password


@command("set_password")
def set_password(
    vm: Machine,
    protocol: str,
    password: str,
    connected: str = "keep",
    display: str | None = None,
) -> None:
    """Change a display's password."""
    if protocol == "spice":
        _needs_spice()
    if connected != "keep":
        raise QapiError(vm.profile.traits.vnc_connected_text)
    set_vnc_password(vm, display, password)


@command("expire_password")
def expire_password(
    vm: Machine, protocol: str, time: str, display: str | None = None
) -> None:
    """Say how long a display's password is good."""
    number = time.removeprefix("+")
    try:
        expires = parse_uint64(number)
    except ValueError:
        expires = None
    if vm.profile.traits.expire_time_checked and time not in ("now", "never") and expires is None:
        raise QapiError(f"Parameter 'time' doesn't take value '{time}'")
    if protocol == "spice":
        _needs_spice()
    found = vm.vnc.find(display)
    if found is None:
        raise QapiError("Could not set password expire time")
    since = vm.clock.realtime() // 10**9 if time.startswith("+") else 0
    found.expires = None if time == "never" else since + (expires or 0)


@command("client_migrate_info")
def client_migrate_info(vm: Machine, protocol: str, **_: Any) -> None:  # noqa: ARG001
    """Tell SPICE clients where to go."""
    if protocol != "spice":
        raise QapiError(texts.parameter_expects("protocol", "'spice'"))
    _needs_spice()


@command("add_client", monitor=True)
def add_client(
    vm: Machine,
    protocol: str,
    fdname: str,
    skipauth: bool = False,
    monitor: Any = None,
    **_: Any,
) -> None:
    """Give a socket to a display or a character device."""
    fd = vm.named_fds.of(monitor).take(fdname)
    try:
        if vm.profile.traits.client_must_be_socket and vm.host.fd_kind(fd) != "socket":
            raise QapiError("parameter @fdname must name a socket")
        if protocol == "spice":
            _needs_spice()
        if protocol == "@dbus-display":
            raise NotModelledError("add_client @dbus-display")
        if protocol != "vnc":
            _add_to_chardev(vm, protocol, fd)
        elif (display := vm.vnc.find()) is not None:
            display.connect(*vm.host.adopt_socket(fd), skip_auth=skipauth)
    except QapiError:
        vm.host.close_fd(fd)
        raise


def _add_to_chardev(vm: Machine, name: str, fd: int) -> None:
    chardev = vm.chardevs.get(name)
    if chardev is None:
        raise QapiError(f"protocol '{name}' is invalid")
    if chardev.transport is None or not chardev.transport.add_client(fd):
        raise QapiError(f"protocol '{name}' failed to add client")


@command("display-reload")
def display_reload(vm: Machine, type: str, tls_certs: bool = False) -> None:
    """display-reload: reload TLS certificates, of which there are none."""
    if type != "vnc":
        raise NotModelledError(f"display-reload {type}")
    if tls_certs:
        missing = vm.vnc.find() is None
        raise QapiError("Can not find vnc display" if missing else "vnc tls is not enabled")


@command("display-update")
def display_update(vm: Machine, type: str, addresses: list[Json] | None = None) -> None:
    """Let a display listen elsewhere."""
    if type != "vnc":
        raise NotModelledError(f"display-update {type}")
    display = vm.vnc.find()
    if display is None:
        raise QapiError("Can not find vnc display")
    if addresses is not None:
        display.update(addresses)


@command("send-key")
def send_key(vm: Machine, keys: list[Json], hold_time: int | None = None) -> None:
    """Press keys and let them go; QEMU drops them while the guest does not run."""
    vm.journal.note("input", "send-key", keys=keys, hold_time=hold_time)


@command("input-send-event")
def input_send_event(
    vm: Machine, events: list[Json], device: str | None = None, head: int | None = None
) -> None:
    """Send input events to the guest: every handler takes those of each console."""
    if device is not None:
        vm.display.console(device, head)
    if not vm.runstate.running and not vm.runstate.check("suspended"):
        raise QapiError("VM not running")
    vm.input.check_events(events)
    vm.journal.note("input", "input-send-event", events=events)


@command("screendump")
def screendump(
    vm: Machine,
    filename: str,
    device: str | None = None,
    head: int | None = None,
    format: str | None = None,
) -> None:
    """Write what the screen shows into a file."""
    picture = vm.display.picture(vm.display.console(device, head))
    try:
        output = vm.host.create_output(filename)
    except OSError as error:
        raise QapiError(
            vm.profile.traits.screendump_open_text.format(filename, error.strerror)
        ) from None
    try:
        output.write([png(picture) if format == "png" else ppm(picture)])
    except OSError as error:
        vm.host.remove_file(filename)
        # see ui/ui-qmp-cmds.c: png_save(), which hears of it when its file is closed
        step = "PNG creation failed. Unable to close file" if format == "png" else _WRITE_FAILED
        raise QapiError(f"{step}: {error.strerror}") from None
    finally:
        output.close()


#: what a channel to a file says; see io/channel-file.c
_WRITE_FAILED = "Unable to write to file"


#: what each direction of an audio device is, unless it is told otherwise
_DIRECTION = {
    "mixing-engine": True,
    "fixed-settings": True,
    "frequency": 44100,
    "channels": 2,
    "voices": 1,
    "format": "s16",
}
_TIMER_PERIOD = 10000
_VOICES_WITHOUT_MIXING = (1 << 31) - 1


@command("query-audiodevs")
def query_audiodevs(vm: Machine) -> list[Json]:
    """Audiodev list: what -audiodev asked for, and what follows where it says nothing."""
    return [_audiodev(entry.values) for entry in reversed(vm.configuration.audiodevs)]


def _audiodev(values: Json) -> Json:
    directions = {name: _direction(values.get(name, {})) for name in ("in", "out")}
    return {"timer-period": _TIMER_PERIOD, **values, **directions}


def _direction(values: Json) -> Json:
    mixing = values.get("mixing-engine", True)
    implied = {} if mixing else {"fixed-settings": False, "voices": _VOICES_WITHOUT_MIXING}
    return {**_DIRECTION, **implied, **values}


actions({"change-vnc-password": lambda vm, password: set_vnc_password(vm, None, password)})

commands(
    {
        "query-display-options": lambda vm: dict(vm.configuration.display) or {"type": "none"},
        "query-mice": lambda vm: vm.input.mice(),
    }
)
