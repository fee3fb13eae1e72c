"""Human monitor commands for the host forwarding rules of user-mode networks.

See net/slirp.c: hmp_hostfwd_add(), hmp_hostfwd_remove() and hmp_info_usernet().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.commands.hmp.registry import hmp
from fakeqemu.model.net.slirp import hostfwd as slirp_hostfwd
from fakeqemu.model.net.slirp.slirp import UserNet
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine


@hmp("hostfwd_add")
def hostfwd_add(vm: Machine, *, arg1: str, arg2: str | None = None) -> str:
    """Set a rule; refusals are printed, they are no errors of the command."""
    found = _backend(vm, arg1 if arg2 is not None else None)
    if isinstance(found, str):
        return found
    try:
        found.forward(arg1 if arg2 is None else arg2)
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
    place = slirp_hostfwd.parse_place(text)
    if place is None:
        return "invalid format\n"
    removed = found.remove_forward(place)
    return f"host forwarding rule for {text} {'removed' if removed else 'not found'}\n"


@hmp("info usernet")
def usernet(vm: Machine) -> str:
    """The connections of user-mode networks."""
    return "".join(each.connections() for each in vm.net.user_nets())


def _backend(vm: Machine, id: str | None) -> UserNet | str:
    """The network asked for, or the oldest; what to print if there is none."""
    if id is None:
        users = vm.net.user_nets()
        return users[0] if users else "user mode network stack not in use\n"
    backend = vm.net.backends.get(id)
    if backend is None:
        return f"unrecognized netdev id '{id}'\n"
    return backend if isinstance(backend, UserNet) else "invalid device specified\n"
