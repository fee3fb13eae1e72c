"""Error texts that more than one place needs, word for word as QEMU sends them.

Clients match on these, so each stands here once. `name` is a member's path
(`a.b[0].c`) where QEMU shows the path, its last part where QEMU shows only that.

See include/qapi/qmp/qerror.h; qapi/qobject-input-visitor.c: qobject_input_check_struct().
"""

from __future__ import annotations

#: what QEMU calls a list element where it shows only the last part of a path
NO_NAME = "null"


def missing_parameter(name: str) -> str:
    """A mandatory member is not there."""
    return f"Parameter '{name}' is missing"


def unexpected_parameter(name: str) -> str:
    """A member that the type does not have."""
    return f"Parameter '{name}' is unexpected"


def invalid_parameter(name: str) -> str:
    """A key that is no name, or that an option group does not know."""
    return f"Invalid parameter '{name}'"


def invalid_parameter_type(name: str, expected: str) -> str:
    """A JSON value of the wrong kind."""
    return f"Invalid parameter type for '{name}', expected: {expected}"


def parameter_expects(name: str, what: str) -> str:
    """A value of the right kind with the wrong content."""
    return f"Parameter '{name}' expects {what}"


def value_not_accepted(name: str, value: str) -> str:
    """A string that is no value of its enumeration."""
    return f"Parameter '{name}' does not accept value '{value}'"


def disabled_by_policy(adjective: str, kind: str, name: str) -> str:
    """What `-compat ...=reject` refuses; `adjective` is Deprecated or Unstable."""
    return f"{adjective} {kind} {name} disabled by policy"


def command_not_found(name: str) -> str:
    """The command list has no such name."""
    return f"The command {name} has not been found"


def command_not_oob(name: str) -> str:
    """exec-oob of a command whose schema does not say allow-oob."""
    return f"The command {name} does not support OOB"


def command_after_preconfig(name: str) -> str:
    """A command that needs the machine, during -preconfig."""
    return f"The command '{name}' is permitted only after machine initialization has completed"


def invalid_value(value: str) -> str:
    """The human monitor's words for a word that is no value of its enumeration."""
    return f"invalid parameter value: {value}"


def device_not_found(name: str) -> str:
    """What class DeviceNotFound says of a path or id."""
    return f"Device '{name}' not found"


BOOL_EXPECTED = "'on' or 'off'"
EXPECTING_CAPABILITIES = "Expecting capabilities negotiation with 'qmp_capabilities'"
CAPABILITIES_COMPLETE = "Capabilities negotiation is already complete, command ignored"
HELP_NOT_AVAILABLE = "Help is not available for this option"
