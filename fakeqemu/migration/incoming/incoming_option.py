"""The argument of `-incoming`: a URI, `defer`, a channel, or early parameters.

Up to 7.2 the text is only parsed when the incoming migration starts; since 10.0 it is
parsed, and refused, while options are read, and may be a MigrationChannel as JSON or
key=value. What proposals let it say besides: after the prefix `config:`, parameters; without a
prefix, parameters as a JSON object; or a JSON object with an address and `parameters`.

See system/vl.c: incoming_option_parse(); migration/migration.c: qemu_start_incoming_migration().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.configuration import Defer, EarlyConfig, IncomingChannel
from fakeqemu.migration.channels.address import Address, looks_like_uri, parse_uri
from fakeqemu.migration.parameters import schema_info as schemainfo
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.migration.incoming.incoming import Incoming
    from fakeqemu.profile import Profile

CONFIG_PREFIX = "config:"

ONLY_ONE = "Only one -incoming config:* is allowed."

#: the same of parameters in another notation
ONLY_ONE_WITH_PARAMETERS = "Only one -incoming with parameters is allowed."

#: members of a JSON object that has address and parameters
_PARAMETERS = "parameters"


def parse_incoming(argument: str, profile: Profile) -> IncomingChannel | Defer | EarlyConfig:
    """What one `-incoming` argument says. Raises QapiError without location."""
    if argument == "defer":
        return Defer()
    traits = profile.traits
    if traits.incoming_config and argument.startswith(CONFIG_PREFIX):
        text = argument.removeprefix(CONFIG_PREFIX)
        return EarlyConfig(schemainfo.parse_parameters(profile, text))
    if not traits.migration_channels or looks_like_uri(argument):
        address = parse_uri(argument, traits)
        return IncomingChannel({"channel-type": "main", "addr": address})
    if argument.startswith("{") and (traits.incoming_json or traits.incoming_json_with_address):
        return _parse_json(argument, profile)
    return IncomingChannel(schemainfo.parse_channel(profile, argument))


def _parse_json(argument: str, profile: Profile) -> IncomingChannel | EarlyConfig:
    """A JSON object that may be a channel, parameters, or a channel with parameters.

    What has an address is a channel: one that lacks its type gets the channel's own error.
    """
    value = schemainfo.parse_json_object(profile, argument)
    is_channel = "channel-type" in value or "addr" in value
    if profile.traits.incoming_json:
        if is_channel:
            return IncomingChannel(schemainfo.parse_channel(profile, argument))
        return EarlyConfig(schemainfo.check_parameters(profile, value))
    parameters = value.pop(_PARAMETERS, None)
    checked = None
    if parameters is not None:
        checked = schemainfo.check_parameters(profile, parameters)
        if not value:
            return EarlyConfig(checked)
    return IncomingChannel(schemainfo.check_channel(profile, value), checked)


def fault_of_second(argument: str, profile: Profile) -> str:
    """What a second argument with parameters is refused with."""
    prefixed = profile.traits.incoming_config and argument.startswith(CONFIG_PREFIX)
    return ONLY_ONE if prefixed else ONLY_ONE_WITH_PARAMETERS


def parse_command(
    command: str, text: str, profile: Profile
) -> tuple[IncomingChannel | Defer, dict[str, Any]]:
    """What an option says that has the members of `command`, and those members.

    Parameters and capabilities come along as early values; without an address the machine waits
    for the command. Raises QapiError without location.
    """
    arguments = schemainfo.parse_arguments(profile, command, text)
    uri, channels = arguments.get("uri"), arguments.get("channels") or []
    if uri is not None and channels:
        raise QapiError("need either 'uri' or 'channels' argument")
    if len(channels) > 1:
        raise QapiError("Channel list must have only one entry, for type 'main'")
    states = {each["capability"]: each["state"] for each in arguments.get("capabilities", ())}
    values = {**arguments.get("config", {}), **states}
    if uri is not None:
        channels = [{"channel-type": "main", "addr": parse_uri(uri, profile.traits)}]
    if not channels or command != "migrate-incoming":
        return Defer(values), arguments
    return IncomingChannel(channels[0], values), arguments


def start_from_command_line(
    incoming: Incoming, address: Address | None, text: str, *, exit_on_error: bool = True
) -> None:
    """The boot step: begin the incoming migration that `-incoming` asked for.

    `address` where the option was parsed already, else `text` is the URI. Raises QapiError.
    """
    if address is None:
        incoming.start(None, uri=text, at_boot=True)
    else:
        channel = {"channel-type": "main", "addr": address}
        incoming.start(None, channels=[channel], exit_on_error=exit_on_error, at_boot=True)
