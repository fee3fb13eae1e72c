"""LUKS, version 1: a header with slots, each of which keeps the disk's key behind a passphrase.

See crypto/block-luks.c: qcrypto_block_luks_open(), qcrypto_block_luks_check_header(),
qcrypto_block_luks_create() and qcrypto_block_luks_load_key(); crypto/block-luks-priv.h;
crypto/afsplit.c.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
from collections.abc import Callable
from typing import Any

from fakeqemu.dataclass import dataclass, field
from fakeqemu.formats import aes
from fakeqemu.qapi.errors import NotModelledError, QapiError

SECTOR = 512
_MAGIC = b"LUKS\xba\xbe"
_HEADER = struct.Struct(">6sH32s32s32sII20s32sI40s")
_SLOT = struct.Struct(">II32sII")
_SLOTS, _STRIPES = 8, 4000
_ENABLED, _DISABLED = 0x00AC71F3, 0x0000DEAD
_DIGEST, _SALT = 20, 32
#: sectors in front of the keys, to a multiple of which they reach
_KEYS_AT = 8
_FEWEST_ITERATIONS = 1000
#: what is taken for a second's worth; QEMU measures it
_ITERATIONS = 200_000
#: of a header's field, and of hashlib
_LARGEST_COUNT, _MOST_ITERATIONS = (1 << 32) - 1, (1 << 31) - 1
_DEFAULT_TIME = 2000
#: name in options -> bytes of the key
_CIPHERS = {"aes-128": 16, "aes-192": 24, "aes-256": 32}
_HASHES = ("sha1", "sha224", "sha256", "sha384", "sha512")

_OUT_OF_RANGE = os.strerror(errno.ERANGE)

Read = Callable[[int, int], bytes]
Write = Callable[[int, bytes], None]
Random = Callable[[int], bytes]


@dataclass(slots=True)
class Slot:
    """One place for the key. `offset` in sectors."""

    active: bool
    iterations: int
    salt: bytes
    offset: int
    stripes: int


@dataclass(slots=True)
class LuksHeader:
    """A header."""

    mode: str
    hash: str
    payload: int
    key_length: int
    digest: bytes
    salt: bytes
    iterations: int
    uuid: str
    slots: list[Slot] = field(default_factory=list)

    @property
    def cipher(self) -> str:
        """As options name it."""
        length = self.key_length // 2 if self.mode.startswith("xts") else self.key_length
        return next(name for name, size in _CIPHERS.items() if size == length)

    def pack(self) -> bytes:
        """The header's bytes."""
        packed = _HEADER.pack(
            _MAGIC, 1, b"aes", self.mode.encode(), self.hash.encode(), self.payload,
            self.key_length, self.digest, self.salt, self.iterations, self.uuid.encode(),
        )  # fmt: skip
        for slot in self.slots:
            state = _ENABLED if slot.active else _DISABLED
            packed += _SLOT.pack(state, slot.iterations, slot.salt, slot.offset, slot.stripes)
        return packed

    def info(self) -> dict[str, Any]:
        """QCryptoBlockInfoLUKS."""
        mode, _, generator = self.mode.partition("-")
        slots = []
        for slot in self.slots:
            entry: dict[str, Any] = {"active": slot.active, "key-offset": slot.offset * SECTOR}
            if slot.active:
                entry |= {"iters": slot.iterations, "stripes": slot.stripes}
            slots.append(entry)
        return {
            "cipher-alg": self.cipher, "cipher-mode": mode,
            "ivgen-alg": generator.partition(":")[0], "hash-alg": self.hash,
            "detached-header": False, "payload-offset": self.payload * SECTOR,
            "master-key-iters": self.iterations, "uuid": self.uuid, "slots": slots,
        }  # fmt: skip


class SectorCipher:
    """Encrypts and decrypts whole sectors, each by its number."""

    def __init__(self, mode: str, key: bytes) -> None:
        self._xts = mode.startswith("xts")
        half = len(key) // 2
        self._cipher = aes.Aes(key[:half] if self._xts else key)
        self._tweaker = aes.Aes(key[half:]) if self._xts else self._cipher
        self._short = mode.partition("-")[2].partition(":")[0] == "plain"

    def _iv(self, sector: int) -> int:
        if self._short:
            sector &= 0xFFFFFFFF
        return int.from_bytes(sector.to_bytes(aes.BLOCK, "little"), "big")

    def encrypt(self, sector: int, data: bytes) -> bytes:
        """Whole sectors from a number on."""
        return self._each(sector, data, encrypts=True)

    def decrypt(self, sector: int, data: bytes) -> bytes:
        """Whole sectors from a number on."""
        return self._each(sector, data, encrypts=False)

    def _each(self, sector: int, data: bytes, *, encrypts: bool) -> bytes:
        out = bytearray()
        for number, at in enumerate(range(0, len(data), SECTOR), sector):
            part, iv = data[at : at + SECTOR], self._iv(number)
            if self._xts:
                act = self._cipher.encrypt if encrypts else self._cipher.decrypt
                out += aes.xts(self._tweaker, act, iv, part)
            elif encrypts:
                out += aes.cbc_encrypt(self._cipher, iv, part)
            else:
                out += aes.cbc_decrypt(self._cipher, iv, part)
        return bytes(out)


# -- reading -------------------------------------------------------------------------------------


def parse(read: Read) -> LuksHeader:
    """The header. Raises QapiError."""
    raw = read(0, _HEADER.size + _SLOTS * _SLOT.size)
    (magic, version, cipher, mode, hash, payload, length, digest, salt, iterations,
     uuid) = _HEADER.unpack_from(raw)  # fmt: skip
    if magic != _MAGIC:
        raise QapiError("Volume is not in LUKS format")
    if version != 1:
        raise QapiError(f"LUKS version {version} is not supported")
    found = LuksHeader(
        _text(mode), _text(hash), payload, length, digest, salt, iterations, _text(uuid)
    )
    for state, count, slot_salt, offset, stripes in _SLOT.iter_unpack(raw[_HEADER.size :]):
        if stripes != _STRIPES:
            raise QapiError(f"Keyslot {len(found.slots)} is corrupted (stripes {stripes} != 4000)")
        if state not in (_ENABLED, _DISABLED):
            raise QapiError(f"Keyslot {len(found.slots)} state (active/disable) is corrupted")
        found.slots.append(Slot(state == _ENABLED, count, slot_salt, offset, stripes))
    _check_places(found)
    xts = found.mode.startswith("xts-plain")
    sizes = [size * 2 if xts else size for size in _CIPHERS.values()]
    known = xts or found.mode.startswith("cbc-plain")
    if _text(cipher) != "aes" or not known or found.hash not in _HASHES or length not in sizes:
        raise NotModelledError(f"LUKS with {_text(cipher)}-{found.mode}, {found.hash}")
    return found


def _check_places(header: LuksHeader) -> None:
    """Whether keys and data have places of their own, and keys cost anything. Raises QapiError."""
    if header.payload < _KEYS_AT:
        raise QapiError("LUKS payload is overlapping with the header")
    if not header.iterations:
        raise QapiError("LUKS key iteration count is zero")
    length = _slot_sectors(header.key_length)
    for number, slot in enumerate(header.slots):
        if slot.active and not slot.iterations:
            raise QapiError(f"Keyslot {number} iteration count is zero")
        if slot.offset < _KEYS_AT:
            raise QapiError(f"Keyslot {number} is overlapping with the LUKS header")
        if slot.offset + length > header.payload:
            raise QapiError(f"Keyslot {number} is overlapping with the encrypted payload")
        for after, other in enumerate(header.slots[number + 1 :], number + 1):
            if abs(slot.offset - other.offset) < length:
                raise QapiError(f"Keyslots {number} and {after} are overlapping in the header")


def _slot_sectors(key_length: int) -> int:
    """How many sectors a slot has for a key."""
    sectors = -(-key_length * _STRIPES // SECTOR)
    return -(-sectors // _KEYS_AT) * _KEYS_AT


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode("latin-1")


def unlock(header: LuksHeader, read: Read, passphrase: str) -> SectorCipher:
    """What the disk is encrypted with. Raises QapiError for a wrong passphrase."""
    for slot in header.slots:
        if not slot.active:
            continue
        slot_key = _derive(header.hash, passphrase.encode(), slot.salt, slot.iterations,
                           header.key_length)  # fmt: skip
        size = -(-header.key_length * slot.stripes // SECTOR) * SECTOR
        material = SectorCipher(header.mode, slot_key).decrypt(0, read(slot.offset * SECTOR, size))
        key = _merge(header, material[: header.key_length * slot.stripes])
        if _derive(header.hash, key, header.salt, header.iterations, _DIGEST) == header.digest:
            return SectorCipher(header.mode, key)
    raise QapiError("Invalid password, cannot unlock any keyslot")


def _derive(hash: str, secret: bytes, salt: bytes, iterations: int, length: int) -> bytes:
    if iterations > _MOST_ITERATIONS:
        raise NotModelledError(f"LUKS with {iterations} iterations")
    return hashlib.pbkdf2_hmac(hash, secret, salt, iterations, length)


# -- keys, split so that a part of them is of no use ---------------------------------------------


def _diffuse(hash: str, block: bytes) -> bytes:
    size, out = hashlib.new(hash).digest_size, b""
    for number, at in enumerate(range(0, len(block), size)):
        part = block[at : at + size]
        out += hashlib.new(hash, struct.pack(">I", number) + part).digest()[: len(part)]
    return out


def _xor(one: bytes, other: bytes) -> bytes:
    mixed = int.from_bytes(one, "big") ^ int.from_bytes(other, "big")
    return mixed.to_bytes(len(one), "big")


def _merge(header: LuksHeader, material: bytes) -> bytes:
    length = header.key_length
    block = bytes(length)
    for at in range(0, len(material) - length, length):
        block = _diffuse(header.hash, _xor(block, material[at : at + length]))
    return _xor(block, material[-length:])


def _split(header: LuksHeader, key: bytes, random: Random) -> bytes:
    length = header.key_length
    stripes = random(length * (_STRIPES - 1))
    block = bytes(length)
    for at in range(0, len(stripes), length):
        block = _diffuse(header.hash, _xor(block, stripes[at : at + length]))
    return stripes + _xor(block, key)


# -- making --------------------------------------------------------------------------------------


def check_options(options: dict[str, Any]) -> None:
    """Whether QCryptoBlockCreateOptionsLUKS can be. Raises QapiError, NotModelledError."""
    if options.get("key-secret") is None:
        raise QapiError("Parameter 'encrypt.key-secret' is required for cipher")
    wanted = (options.get("cipher-alg", "aes-256"), options.get("cipher-mode", "xts"),
              options.get("ivgen-alg", "plain64"), options.get("hash-alg", "sha256"))  # fmt: skip
    modes, generators = ("xts", "cbc"), ("plain", "plain64")
    for value, known in zip(wanted, (_CIPHERS, modes, generators, _HASHES), strict=True):
        if value not in known:
            raise NotModelledError(f"LUKS with {value}")
    if wanted[:2] == ("aes-192", "xts"):
        raise QapiError("XTS mode is not supported with cipher aes-192")


def _iterations(milliseconds: int) -> int:
    """How many take that long. Raises QapiError."""
    # QEMU takes a negative time for a very long one
    if milliseconds < 0 or _ITERATIONS * milliseconds >= 1 << 64:
        raise QapiError(f"PBKDF iterations {_ITERATIONS} too large to scale: {_OUT_OF_RANGE}")
    found = _ITERATIONS * milliseconds // 1000
    for count in (found // 8, found):
        if count > _LARGEST_COUNT:
            raise QapiError(
                f"PBKDF iterations {count} larger than {_LARGEST_COUNT}: {_OUT_OF_RANGE}"
            )
    return found


def create(options: dict[str, Any], passphrase: str, uuid: str, random: Random) -> bytes:
    """A header and its keys, as long as the disk's data are behind it."""
    length = _CIPHERS[options.get("cipher-alg", "aes-256")]
    mode = f"{options.get('cipher-mode', 'xts')}-{options.get('ivgen-alg', 'plain64')}"
    if mode.startswith("xts"):
        length *= 2
    if options.get("ivgen-hash-alg") is not None:
        mode += f":{options['ivgen-hash-alg']}"
    hash = options.get("hash-alg", "sha256")
    iterations = _iterations(options.get("iter-time", _DEFAULT_TIME))
    unit = _slot_sectors(length)
    key, salt = random(length), random(_SALT)
    header = LuksHeader(
        mode, hash, _KEYS_AT + _SLOTS * unit, length, b"", salt,
        max(iterations // 8, _FEWEST_ITERATIONS), uuid,
    )  # fmt: skip
    header.digest = _derive(hash, key, salt, header.iterations, _DIGEST)
    for number in range(_SLOTS):
        header.slots.append(Slot(False, 0, bytes(_SALT), _KEYS_AT + number * unit, _STRIPES))
    first = header.slots[0]
    first.active, first.salt = True, random(_SALT)
    first.iterations = max(iterations, _FEWEST_ITERATIONS)
    slot_key = _derive(hash, passphrase.encode(), first.salt, first.iterations, length)
    material = _split(header, key, random)
    material = material.ljust(-(-len(material) // SECTOR) * SECTOR, b"\0")
    material = SectorCipher(mode, slot_key).encrypt(0, material)
    out = header.pack().ljust(_KEYS_AT * SECTOR, b"\0") + material
    return out.ljust(header.payload * SECTOR, b"\0")
