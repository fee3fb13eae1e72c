"""Encrypted qcow2 images: LUKS, whose header has clusters of its own, and data by their place.

See block/qcow2.c: qcow2_read_extensions(), qcow2_set_up_encryption() and
qcow2_crypto_hdr_init_func().
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from fakeqemu.formats import luks
from fakeqemu.formats.qcow2.header import CRYPT_LUKS
from fakeqemu.formats.qcow2.image import Qcow2
from fakeqemu.model.block.drivers.qcow2.stores import CipherStore
from fakeqemu.model.qom import secrets
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.graph import Graph


def open_encrypted(graph: Graph, image: Qcow2, options: dict[str, Any] | None) -> luks.LuksHeader:
    """Have the image's data decrypted, with the secret that options name; the LUKS header.

    Raises QapiError.
    """
    place = image.header.crypto
    assert place is not None
    secret = (options or {}).get("key-secret")
    if secret is None:
        raise QapiError("Parameter 'encrypt.key-secret' is required for cipher")
    passphrase = secrets.lookup_utf8(graph.objects, secret)
    offset, size = place

    def read(at: int, count: int) -> bytes:
        if at + count > size:
            raise QapiError("Request for data outside of extension header")
        return image.store.read(offset + at, count)

    header = luks.parse(read)
    cipher = luks.unlock(header, read, passphrase)
    image.data = CipherStore(image.data, cipher)
    return header


def check_options(options: dict[str, Any]) -> None:
    """Whether a new image can be encrypted so. Raises QapiError, NotModelledError."""
    if options["format"] != "luks":
        raise NotModelledError(f"qcow2 images encrypted by {options['format']}")
    luks.check_options(options)


def encrypt_new(graph: Graph, image: Qcow2, options: dict[str, Any]) -> None:
    """Give a new image an encryption header. Raises QapiError."""
    passphrase = secrets.lookup_utf8(graph.objects, options["key-secret"])
    host = graph.process.host

    def random(count: int) -> bytes:
        found = b""
        while len(found) < count:
            found += uuid.UUID(host.random_uuid()).bytes
        return found[:count]

    data = luks.create(options, passphrase, host.random_uuid(), random)
    at = image.refcounts.allocate(len(data))
    image.store.write(at, data.ljust(-(-len(data) // image.cluster) * image.cluster, b"\0"))
    image.header.crypt_method, image.header.crypto = CRYPT_LUKS, (at, len(data))
    try:
        image.write_header()
    except QapiError as error:
        raise error.prefixed("Cannot write encryption header: ") from None
    image.flush()
