"""AES, in CBC and XTS mode: secrets on a command line and disks are encrypted so.

Python has none. It guards nothing here; it only has to agree with who encrypted.

See crypto/secret_common.c: qcrypto_secret_decrypt(); crypto/cipher.c; FIPS 197 has the cipher, IEEE
1619 the mode XTS.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

BLOCK = 16
KEY = 32
_POLYNOMIAL = 0x11B
_WORDS = struct.Struct(">4I")
_MASK = (1 << 128) - 1
#: what an overflow of the tweak of XTS comes to
_XTS_CARRY = 0x87


def _multiply(a: int, b: int) -> int:
    """In the field of the cipher."""
    product = 0
    while b:
        if b & 1:
            product ^= a
        a <<= 1
        if a & 0x100:
            a ^= _POLYNOMIAL
        b >>= 1
    return product


def _boxes() -> tuple[bytes, bytes]:
    """The substitution and its inverse."""
    forward, value, inverse = bytearray(256), 1, 1
    forward[0] = 0x63
    while True:
        # 3 generates the field; 0xF6 is its inverse
        value, inverse = _multiply(value, 3), _multiply(inverse, 0xF6)
        rotated = [(inverse << n | inverse >> (8 - n)) & 0xFF for n in range(5)]
        forward[value] = rotated[0] ^ rotated[1] ^ rotated[2] ^ rotated[3] ^ rotated[4] ^ 0x63
        if value == 1:
            break
    backward = bytearray(256)
    for index, number in enumerate(forward):
        backward[number] = index
    return bytes(forward), bytes(backward)


_BOX, _INVERSE = _boxes()


def _tables(box: bytes, factors: tuple[int, int, int, int]) -> tuple[tuple[int, ...], ...]:
    """For each byte of a word, what substituting and mixing makes of it."""
    first = []
    for number in box:
        a, b, c, d = (_multiply(number, factor) for factor in factors)
        first.append(a << 24 | b << 16 | c << 8 | d)
    found = [tuple(first)]
    for _ in range(3):
        found.append(tuple(word >> 8 | (word & 0xFF) << 24 for word in found[-1]))
    return tuple(found)


_ENCRYPT = _tables(_BOX, (2, 1, 1, 3))
_DECRYPT = _tables(_INVERSE, (14, 9, 13, 11))


def _expand(key: bytes) -> list[int]:
    """The words of all round keys."""
    words = list(struct.unpack(f">{len(key) // 4}I", key))
    length, constant = len(words), 1
    for index in range(length, 4 * (length + 7)):
        word = words[-1]
        if index % length == 0:
            word = _substitute(word << 8 & 0xFFFFFFFF | word >> 24) ^ constant << 24
            constant = _multiply(constant, 2)
        elif length > 6 and index % length == 4:
            word = _substitute(word)
        words.append(word ^ words[index - length])
    return words


def _substitute(word: int) -> int:
    parts = word.to_bytes(4, "big")
    return int.from_bytes(bytes(_BOX[each] for each in parts), "big")


def _unmix(word: int) -> int:
    a, b, c, d = word.to_bytes(4, "big")
    t0, t1, t2, t3 = _DECRYPT
    return t0[_BOX[a]] ^ t1[_BOX[b]] ^ t2[_BOX[c]] ^ t3[_BOX[d]]


_Words = tuple[int, int, int, int]


class Aes:
    """The cipher with one key of 16, 24 or 32 bytes; blocks are 16 bytes as a number."""

    def __init__(self, key: bytes) -> None:
        words = _expand(key)
        self._forward = [tuple(words[at : at + 4]) for at in range(0, len(words), 4)]
        inner = [tuple(map(_unmix, each)) for each in self._forward[-2:0:-1]]
        backward = [self._forward[-1], *inner, self._forward[0]]
        # decryption shifts rows the other way: as encryption does with the words in that order
        self._backward = [(a, d, c, b) for a, b, c, d in backward]

    def encrypt(self, block: int) -> int:
        """One block."""
        a, b, c, d = _cipher(self._forward, _ENCRYPT, _BOX, _words(block))
        return a << 96 | b << 64 | c << 32 | d

    def decrypt(self, block: int) -> int:
        """One block."""
        a, b, c, d = _words(block)
        a, d, c, b = _cipher(self._backward, _DECRYPT, _INVERSE, (a, d, c, b))
        return a << 96 | b << 64 | c << 32 | d


def _words(block: int) -> _Words:
    return block >> 96, block >> 64 & 0xFFFFFFFF, block >> 32 & 0xFFFFFFFF, block & 0xFFFFFFFF


def _cipher(
    keys: Sequence[tuple[int, ...]],
    tables: tuple[tuple[int, ...], ...],
    box: bytes,
    words: _Words,
) -> _Words:
    """All rounds on the words of one block."""
    a, b, c, d = words
    t0, t1, t2, t3 = tables
    (k0, k1, k2, k3), *rounds, last = keys
    a, b, c, d = a ^ k0, b ^ k1, c ^ k2, d ^ k3
    for k0, k1, k2, k3 in rounds:
        a, b, c, d = (
            t0[a >> 24] ^ t1[b >> 16 & 255] ^ t2[c >> 8 & 255] ^ t3[d & 255] ^ k0,
            t0[b >> 24] ^ t1[c >> 16 & 255] ^ t2[d >> 8 & 255] ^ t3[a & 255] ^ k1,
            t0[c >> 24] ^ t1[d >> 16 & 255] ^ t2[a >> 8 & 255] ^ t3[b & 255] ^ k2,
            t0[d >> 24] ^ t1[a >> 16 & 255] ^ t2[b >> 8 & 255] ^ t3[c & 255] ^ k3,
        )
    k0, k1, k2, k3 = last
    return (
        box[a >> 24] << 24 ^ box[b >> 16 & 255] << 16 ^ box[c >> 8 & 255] << 8 ^ box[d & 255] ^ k0,
        box[b >> 24] << 24 ^ box[c >> 16 & 255] << 16 ^ box[d >> 8 & 255] << 8 ^ box[a & 255] ^ k1,
        box[c >> 24] << 24 ^ box[d >> 16 & 255] << 16 ^ box[a >> 8 & 255] << 8 ^ box[b & 255] ^ k2,
        box[d >> 24] << 24 ^ box[a >> 16 & 255] << 16 ^ box[b >> 8 & 255] << 8 ^ box[c & 255] ^ k3,
    )


def _blocks(data: bytes) -> list[int]:
    return [int.from_bytes(data[at : at + BLOCK], "big") for at in range(0, len(data), BLOCK)]


def decrypt_cbc(key: bytes, iv: bytes, data: bytes) -> bytes:
    """What was encrypted with `key`; `data` are whole blocks of 16 bytes."""
    return cbc_decrypt(Aes(key), int.from_bytes(iv, "big"), data)


def cbc_decrypt(cipher: Aes, iv: int, data: bytes) -> bytes:
    """Whole blocks."""
    plain = bytearray()
    for block in _blocks(data):
        plain += (cipher.decrypt(block) ^ iv).to_bytes(BLOCK, "big")
        iv = block
    return bytes(plain)


def cbc_encrypt(cipher: Aes, iv: int, data: bytes) -> bytes:
    """Whole blocks."""
    out = bytearray()
    for block in _blocks(data):
        iv = cipher.encrypt(block ^ iv)
        out += iv.to_bytes(BLOCK, "big")
    return bytes(out)


def xts(tweaker: Aes, act: Callable[[int], int], iv: int, data: bytes) -> bytes:
    """Whole blocks, with `act` of the other half of the key's cipher: its encrypt or decrypt."""
    out = bytearray()
    # the tweak is a number whose first byte is the lowest
    tweak = int.from_bytes(tweaker.encrypt(iv).to_bytes(BLOCK, "big"), "little")
    for block in _blocks(data):
        mask = int.from_bytes(tweak.to_bytes(BLOCK, "little"), "big")
        out += (act(block ^ mask) ^ mask).to_bytes(BLOCK, "big")
        tweak = tweak << 1 & _MASK ^ (_XTS_CARRY if tweak >> 127 else 0)
    return bytes(out)
