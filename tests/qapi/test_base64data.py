"""Base64 as QEMU reads it."""

from __future__ import annotations

import pytest

from fakeqemu.qapi.base64data import decode
from fakeqemu.qapi.errors import QapiError


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("aGVsbG8=", b"hello"),
        ("aGVs\nbG8=", b"hello"),
        ("aGVsbG8", b"hello"),
        ("a", b""),
        ("", b""),
    ],
)
def test_left_over_letters_fall_away(text: str, data: bytes) -> None:
    assert decode(text) == data


def test_other_letters_are_refused() -> None:
    with pytest.raises(QapiError, match="Base64 data contains invalid characters"):
        decode("%%%")
