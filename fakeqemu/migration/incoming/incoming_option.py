"""The argument of `-incoming`: a URI, `defer`, a channel, or early parameters.

Up to 7.2 the text is only parsed when the incoming migration starts; since 10.0 it is
parsed, and refused, while options are read, and may be a MigrationChannel as JSON or
key=value. With early parameters the prefix `config:` says that the rest is none of these.

See system/vl.c: incoming_option_parse(); migration/migration.c: qemu_start_incoming_migration().
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from fakeqemu.configuration import Defer, EarlyConfig, IncomingChannel
from fakeqemu.migration.channels.address import looks_like_uri, parse_uri
from fakeqemu.migration.parameters import schema_info as schemainfo

if TYPE_CHECKING:
    from fakeqemu.profile import Profile

CONFIG_PREFIX = "config:"

ONLY_ONE = "Only one -incoming config:* is allowed."

#: variants of the option that were proposed and never released
BARE_JSON = "bare-json"


def parse_incoming(
    argument: str, profile: Profile, dialects: Collection[str] = ()
) -> IncomingChannel | Defer | EarlyConfig:
    """What one `-incoming` argument says. Raises QapiError without location.

    Of dialects `bare-json` takes a JSON object without `channel-type` for parameters.
    """
    if argument == "defer":
        return Defer()
    traits = profile.traits
    if traits.incoming_config and argument.startswith(CONFIG_PREFIX):
        text = argument.removeprefix(CONFIG_PREFIX)
        return EarlyConfig(schemainfo.parse_parameters(profile, text))
    if not traits.migration_channels or looks_like_uri(argument):
        address = parse_uri(argument, traits)
        return IncomingChannel({"channel-type": "main", "addr": address})
    if BARE_JSON in dialects and argument.startswith("{"):
        value = schemainfo.parse_json_object(profile, argument)
        if "channel-type" not in value:
            return EarlyConfig(schemainfo.parse_parameters(profile, argument))
    return IncomingChannel(schemainfo.parse_channel(profile, argument))
