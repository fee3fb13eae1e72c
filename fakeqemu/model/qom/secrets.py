"""Secrets: what an object of type `secret` has to keep, decrypted where it came encrypted.

See crypto/secret_common.c: qcrypto_secret_complete(), qcrypto_secret_decrypt() and
qcrypto_secret_lookup(); crypto/secret.c: qcrypto_secret_load_data().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.model.host_files import glib_error
from fakeqemu.model.qom.user_object import UserObject
from fakeqemu.qapi import base64data
from fakeqemu.qapi.errors import NotModelledError, QapiError
from fakeqemu.qapi.json.utf8 import c_bytes

if TYPE_CHECKING:
    from fakeqemu.model.qom.user_creatable import Objects

_TYPE = "secret_common"
#: bytes that are decrypted; more would hold others up
_LONGEST = 4096


def complete(objects: Objects, obj: UserObject) -> None:
    """Read and decode it. Raises QapiError."""
    data, file = obj.options.get("data"), obj.options.get("file")
    if file is not None and data is not None:
        raise QapiError("'file' and 'data' are mutually exclusive")
    if file is not None:
        try:
            raw = objects.process.host.read_file(file)
        except OSError as error:
            raise QapiError(f"Unable to read {file}: {glib_error(file, error)}") from None
    elif data is not None:
        raw = c_bytes(data)
    else:
        raise QapiError("Either 'file' or 'data' must be provided")
    encoded = obj.options.get("format") == "base64"
    if "keyid" in obj.options:
        raw = _decrypt(objects, obj, raw, encoded=encoded)
    elif encoded:
        raw = base64data.decode(raw.decode("latin-1"))
    obj.secret = raw


def lookup(objects: Objects, id: str) -> bytes:
    """What the secret `id` keeps. Raises QapiError."""
    obj = objects.get(id)
    if obj is None:
        raise QapiError(f"No secret with id '{id}'")
    if not objects.process.profile.is_a(obj.type, _TYPE):
        raise QapiError(f"Object with id '{id}' is not a secret")
    if not isinstance(obj, UserObject) or obj.secret is None:
        raise QapiError(f"Secret with id '{id}' has no data")
    return obj.secret


def lookup_utf8(objects: Objects, id: str) -> str:
    """The same as text. Raises QapiError."""
    try:
        return lookup(objects, id).decode()
    except UnicodeDecodeError:
        raise QapiError(f"Data from secret {id} is not valid UTF-8") from None


def _decrypt(objects: Objects, obj: UserObject, raw: bytes, *, encoded: bool) -> bytes:
    from fakeqemu.formats.aes import BLOCK, KEY, decrypt_cbc

    key = lookup(objects, obj.options["keyid"])
    if len(key) != KEY:
        raise QapiError("Key should be 32 bytes in length")
    if "iv" not in obj.options:
        raise QapiError("IV is required to decrypt secret")
    iv = base64data.decode(obj.options["iv"])
    if len(iv) != BLOCK:
        raise QapiError(f"IV should be 16 bytes in length not {len(iv)}")
    if encoded:
        raw = base64data.decode(raw.decode("latin-1"))
    if len(raw) % BLOCK:
        raise QapiError(f"Length {len(raw)} must be a multiple of block size {BLOCK}")
    if not raw or len(raw) > _LONGEST:
        # nothing at all is read from in front of its memory
        raise NotModelledError(f"an encrypted secret of {len(raw)} bytes")
    plain = decrypt_cbc(key, iv, raw)
    padding = plain[-1]
    if padding > BLOCK or padding > len(plain):
        raise QapiError(
            f"Incorrect number of padding bytes ({padding}) found on decrypted data"
        )
    return plain[: len(plain) - padding]
