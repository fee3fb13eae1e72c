"""TLS on migration channels, without encryption: credentials and handshake bytes are checked.

A channel with TLS begins with the first bytes of a handshake, so that a side without TLS reads a
bad magic number where it expects a stream, as with a real peer.

See migration/tls.c: migration_tls_get_creds() and migration_tls_channel_connect().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine

#: a record of type handshake, version 3.1
HELLO = b"\x16\x03\x01\x00"


def check_credentials(vm: Machine, name: str, endpoint: str) -> None:
    """Refuse credentials object `name` unless it is for a `client` or `server` `endpoint`.

    Raises QapiError.
    """
    credentials = vm.objects.get(name)
    if credentials is None:
        raise QapiError(f"No TLS credentials with id '{name}'")
    if not vm.profile.is_a(credentials.type, "tls-creds"):
        raise QapiError(f"Object with id '{name}' is not TLS credentials")
    if credentials.get("endpoint") != endpoint:
        raise QapiError(f"Expected TLS credentials for a {endpoint} endpoint")
