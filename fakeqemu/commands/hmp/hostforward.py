"""Human monitor commands for the host forwarding rules of user-mode networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.commands.hmp.registry import hmp
from fakeqemu.model import hostforward
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine
    from fakeqemu.model.net import Backend


@hmp("hostfwd_add")
def hostfwd_add(vm: Machine, *, arg1: str, arg2: str | None = None) -> str:
    """Set a rule; refusals are printed, they are no errors of the command."""
    found = _backend(vm, arg1 if arg2 is not None else None)
    if isinstance(found, str):
        return found
    try:
        hostforward.add(found.forwards, arg1 if arg2 is None else arg2, vm.profile.traits)
    except QapiError as error:
        return f"{error.desc}\n"
    return ""


@hmp("hostfwd_remove")
def hostfwd_remove(vm: Machine, *, arg1: str, arg2: str | None = None) -> str:
    """Take a rule away."""
    found = _backend(vm, arg1 if arg2 is not None else None)
    if isinstance(found, str):
        return found
    text = arg1 if arg2 is None else arg2
    place = hostforward.parse_place(text)
    if place is None:
        return "invalid format\n"
    removed = hostforward.remove(found.forwards, place)
    return f"host forwarding rule for {text} {'removed' if removed else 'not found'}\n"


def _backend(vm: Machine, id: str | None) -> Backend | str:
    """The network asked for, or the oldest; what to print if there is none."""
    if id is None:
        users = [each for each in vm.net.backends.values() if each.type == "user"]
        return users[0] if users else "user mode network stack not in use\n"
    backend = vm.net.backends.get(id)
    if backend is None:
        return f"unrecognized netdev id '{id}'\n"
    return backend if backend.type == "user" else "invalid device specified\n"
