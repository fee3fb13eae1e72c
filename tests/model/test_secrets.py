"""Secrets that come encrypted, as a real one takes and refuses them."""

import base64

import pytest

from fakeqemu.formats.aes import decrypt_cbc
from fakeqemu.model.qom import secrets
from fakeqemu.qapi.errors import QapiError

KEY = bytes(range(32))
IV = bytes(range(16))
#: `openssl enc -aes-256-cbc` of "letmein\n" with these
ENCRYPTED = "Z2YzVNUm2GrZbeZrsLUvwA=="


def test_a_block_of_the_standard():
    encrypted = bytes.fromhex("8ea2b7ca516745bfeafc49904b496089")
    plain = decrypt_cbc(KEY, bytes(16), encrypted)
    assert plain.hex() == "00112233445566778899aabbccddeeff"


@pytest.fixture
def machine(start):
    key = base64.b64encode(KEY).decode()
    return start("-object", f"secret,id=key,data={key},format=base64")


def secret(**options):
    given = {"qom-type": "secret", "id": "s", "keyid": "key", "format": "base64"}
    return {**given, "iv": base64.b64encode(IV).decode(), "data": ENCRYPTED, **options}


def test_an_encrypted_secret(machine):
    machine.ask("object-add", **secret())
    assert secrets.lookup(machine.vm.objects, "s") == b"letmein\n"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"data": base64.b64encode(bytes([1] * 16)).decode()},
         "Incorrect number of padding bytes (185) found on decrypted data"),
        ({"data": "aGVsbG8="}, "Length 5 must be a multiple of block size 16"),
        ({"iv": "aGVsbG8="}, "IV should be 16 bytes in length not 5"),
        ({"keyid": "nosuch"}, "No secret with id 'nosuch'"),
        ({"keyid": "short"}, "Key should be 32 bytes in length"),
    ],
)  # fmt: skip
def test_what_cannot_be_decrypted(machine, options, text):
    machine.ask("object-add", **{"qom-type": "secret", "id": "short", "data": "x"})
    assert machine.error("object-add", **secret(**options)) == ("GenericError", text)
    assert machine.vm.objects.get("s") is None


def test_a_secret_without_a_vector(machine):
    options = secret()
    del options["iv"]
    assert machine.error("object-add", **options)[1] == "IV is required to decrypt secret"


def test_an_object_that_keeps_nothing(machine):
    machine.ask("object-add", **{"qom-type": "iothread", "id": "i"})
    with pytest.raises(QapiError, match="Object with id 'i' is not a secret"):
        secrets.lookup(machine.vm.objects, "i")
