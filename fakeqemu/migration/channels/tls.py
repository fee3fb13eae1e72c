"""TLS on migration channels, without encryption: credentials and handshake bytes are checked.

A channel with TLS begins with the first bytes of a handshake, so that a side without TLS reads a
bad magic number where it expects a stream, as with a real peer.

See migration/tls.c: migration_tls_get_creds(), migration_tls_channel_connect() and
migration_tls_channel_process_incoming().
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fakeqemu.model.host import Stream
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


def greeted(
    vm: Machine, credentials: str | None, channel: Stream, ready: Callable[[bytes], None]
) -> None:
    """Take the handshake from an accepted `channel`, then call `ready` with what follows it.

    Without credentials that is at once; a bad handshake drops the channel.
    """
    if not credentials:
        ready(b"")
        return
    gathered = bytearray()

    def drop(text: str) -> None:
        vm.host.warn(text)
        channel.on_data = channel.on_close = None
        channel.close()

    def received(data: bytes) -> None:
        gathered.extend(data)
        if len(gathered) < len(HELLO):
            return
        try:
            check_credentials(vm, credentials, "server")
        except QapiError as error:
            drop(error.desc)
            return
        if not gathered.startswith(HELLO):
            drop("TLS handshake failed: An unexpected TLS packet was received.")
            return
        channel.on_data = None
        ready(bytes(gathered[len(HELLO) :]))

    channel.on_close = lambda _: drop(
        "TLS handshake failed: The TLS connection was non-properly terminated."
    )
    channel.on_data = received
