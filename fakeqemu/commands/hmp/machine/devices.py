"""Human monitor commands that add, change and remove things.

See system/qdev-monitor.c: hmp_device_add(); qom/qom-hmp-cmds.c: hmp_object_add() and hmp_qom_set();
net/net-hmp-cmds.c: hmp_netdev_add(); chardev/char-hmp-cmds.c: hmp_chardev_add(); ui/ui-hmp-cmds.c:
hmp_sendkey().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.boot.chardevs import chardev_options
from fakeqemu.boot.error_report import EarlyExit
from fakeqemu.commands import char as chardev_commands, ui
from fakeqemu.commands.control import misc
from fakeqemu.commands.hmp.arguments import HmpSyntaxError
from fakeqemu.commands.hmp.option_strings import parse_argument, parse_noisily, printed
from fakeqemu.commands.hmp.registry import HmpMonitor, hmp
from fakeqemu.commands.machine import qom as qom_commands
from fakeqemu.model.chardev.chardev import ChardevOptions
from fakeqemu.model.net.slirp.options import expand_ipv6_net
from fakeqemu.qapi.errors import QapiError, StartupError
from fakeqemu.qapi.json.streamer import parse_json
from fakeqemu.qapi.json.writer import encode
from fakeqemu.qapi.readers.keyval import check_keyval, parse_keyval
from fakeqemu.qapi.readers.opts_visitor import visit_options

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine


@hmp("device_add", monitor=True)
def device_add(vm: Machine, device: str = "", monitor: HmpMonitor | None = None) -> None:
    """Plug a device."""
    vm.devices.create(parse_argument(vm, "device", device).values, typed=False, monitor=monitor)


@hmp("object_add")
def object_add(vm: Machine, object: str) -> None:
    """Make a user-creatable object."""
    if object.startswith("{"):
        values: Any = parse_json(object, vm.profile.traits)
    else:
        values = parse_keyval(object, "qom-type")
    type = vm.profile.schema.commands["object-add"].arg_type
    vm.objects.add(check_keyval(type, values, vm.profile.traits))


@hmp("object_del", monitor=True)
def object_del(vm: Machine, id: str, monitor: HmpMonitor) -> None:
    """Take a user-creatable object away."""
    vm.objects.delete(id, monitor.outer)


@hmp("netdev_add", monitor=True)
def netdev_add(vm: Machine, netdev: str = "", monitor: HmpMonitor | None = None) -> None:
    """Make a network backend."""
    entry = parse_argument(vm, "netdev", netdev)
    if entry.id in vm.net.option_ids:
        raise HmpSyntaxError("")
    type = vm.profile.schema.commands["netdev_add"].arg_type
    pairs = expand_ipv6_net(tuple(entry.pairs), vm.profile.traits)
    arguments = visit_options(pairs, entry.id, type, vm.profile.traits, "netdev_add")
    vm.net.add(arguments, monitor)
    if entry.id is not None:
        vm.net.option_ids.add(entry.id)


@hmp("ringbuf_read")
def ringbuf_read(vm: Machine, device: str, size: int) -> str:
    """Read from a ring buffer, unprintable bytes as escapes."""
    text = chardev_commands.ringbuf_read(vm, device, size)
    shown = ""
    for char in text:
        if char == "\\":
            shown += "\\\\"
        elif (char < " " and char not in "\n\t") or char == "\x7f":
            shown += f"\\u{ord(char):04X}"
        else:
            shown += char
    return shown + "\n"


@hmp("getfd", monitor=True)
def getfd(vm: Machine, fdname: str, monitor: HmpMonitor) -> None:
    """Keep the descriptor that came along under a name."""
    misc.getfd(vm, fdname, monitor)


@hmp("closefd", monitor=True)
def closefd(vm: Machine, fdname: str, monitor: HmpMonitor) -> None:
    """Close a descriptor kept under a name."""
    misc.closefd(vm, fdname, monitor)


@hmp("qom-list")
def qom_list(vm: Machine, path: str | None = None) -> str:
    """An object's properties."""
    if path is None:
        return "/\n"
    return "".join(
        f"{entry['name']} ({entry['type']})\n" for entry in qom_commands.qom_list(vm, path)
    )


@hmp("qom-get")
def qom_get(vm: Machine, path: str, property: str) -> str:
    """The value of one property, as JSON."""
    return encode(qom_commands.qom_get(vm, path, property), pretty=True) + "\n"


@hmp("qom-set")
def qom_set(vm: Machine, path: str, property: str, value: str, json: bool = False) -> None:
    """Change one property."""
    if json:
        qom_commands.qom_set(vm, path, property, parse_json(value, vm.profile.traits))
        return
    from fakeqemu.model.qom.property_types import from_string

    obj = vm.qom.resolve(path)
    obj.require(property)
    shape = obj.shapes.get(property, "str")
    typed = from_string(vm.profile.schema, shape, value, property, vm.profile.traits)
    obj.set(property, typed, vm.profile.schema)


@hmp("sendkey")
def sendkey(vm: Machine, keys: str, hold_time: int | None = None) -> str:
    """Press keys and let them go."""
    known = vm.profile.schema.enum_values("QKeyCode")
    wanted = [key if key != "<" else "less" for key in keys.split("-")]
    for key in wanted:
        if key not in known and not key.startswith("0x"):
            return f"invalid parameter: {key}\n"
    ui.send_key(vm, [{"type": "qcode", "data": key} for key in wanted], hold_time)
    return ""


@hmp("mouse_move")
def mouse_move(vm: Machine, dx_str: str, dy_str: str, dz_str: str | None = None) -> None:
    """Move the mouse; a guest that does not run does not see it."""
    vm.journal.note("input", "mouse_move", dx=dx_str, dy=dy_str, dz=dz_str)


@hmp("mouse_button")
def mouse_button(vm: Machine, button_state: int) -> None:
    """Press the mouse's buttons."""
    vm.journal.note("input", "mouse_button", state=button_state)


@hmp("chardev-add")
def chardev_add(vm: Machine, args: str) -> str:
    """Make a character device from an option string."""
    made, reported = _chardev_options(vm, args)
    if made is None:
        return reported
    for options in made:
        if options.id in vm.chardevs:
            raise QapiError(
                f"attempt to add duplicate property '{options.id}' to object (type 'container')"
            )
        vm.chardevs.add(options)
    return reported


def _chardev_options(vm: Machine, args: str) -> tuple[list[ChardevOptions] | None, str]:
    """What to make, None if it is refused; and what the monitor prints of it."""
    entry, lines = parse_noisily(vm, "chardev", args)
    if entry is None:
        return None, printed([*lines, "Error: Parsing chardev args failed"])
    try:
        return chardev_options(entry, vm.profile), printed(lines)
    except EarlyExit as answer:
        return [], answer.stdout
    except StartupError as error:
        raise QapiError(str(error)) from None


@hmp("chardev-change")
def chardev_change(vm: Machine, id: str, args: str) -> str:
    """Make another character device in the place of one."""
    made, reported = _chardev_options(vm, f"{args},id={id}")
    if made is None:
        return reported
    if made:
        vm.chardevs.change(id, lambda: made[0])
    return reported
