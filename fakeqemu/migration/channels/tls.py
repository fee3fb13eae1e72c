"""TLS on migration channels, without encryption: only handshake bytes are checked.

A channel with TLS begins with the first bytes of a handshake, so that a side without TLS reads a
bad magic number where it expects a stream, as with a real peer.

See migration/tls.c: migration_tls_channel_connect().
"""

from __future__ import annotations

#: a record of type handshake, version 3.1
HELLO = b"\x16\x03\x01\x00"
