"""Base64 as QEMU reads it: strict about letters, lenient about their number.

See util/base64.c: qbase64_decode().
"""

from __future__ import annotations

import base64
import string

from fakeqemu.qapi.errors import QapiError

_LETTERS = frozenset(string.ascii_letters + string.digits + "+/")
_ALLOWED = _LETTERS | set("=\n")


def decode(text: str) -> bytes:
    """The bytes; what is left over at the end falls away. Raises QapiError."""
    if not _ALLOWED.issuperset(text):
        raise QapiError("Base64 data contains invalid characters")
    letters = "".join(letter for letter in text.split("=", 1)[0] if letter in _LETTERS)
    whole = letters[: len(letters) - (len(letters) % 4 == 1)]
    return base64.b64decode(whole + "=" * (-len(whole) % 4))
