"""Decryption by AES-256 in CBC mode: secrets on a command line are encrypted so.

Python has none. It guards nothing here; it only has to agree with who encrypted.

See crypto/secret_common.c: qcrypto_secret_decrypt(); FIPS 197 has the cipher.
"""

from __future__ import annotations

BLOCK = 16
KEY = 32
_WORD = 4
_POLYNOMIAL = 0x11B


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
_TIMES = {factor: bytes(_multiply(n, factor) for n in range(256)) for factor in (9, 11, 13, 14)}
#: place of a byte before its row was shifted back
_SHIFTED = tuple((index - 4 * (index % 4)) % BLOCK for index in range(BLOCK))


def _round_keys(key: bytes) -> list[bytes]:
    words = [key[n : n + _WORD] for n in range(0, KEY, _WORD)]
    per_key, constant = KEY // _WORD, 1
    rounds = per_key + 6
    for index in range(per_key, 4 * (rounds + 1)):
        word = words[-1]
        if index % per_key == 0:
            word = bytes(_BOX[n] for n in (*word[1:], word[0]))
            word = bytes((word[0] ^ constant, *word[1:]))
            constant = _multiply(constant, 2)
        elif index % per_key == 4:
            word = bytes(_BOX[n] for n in word)
        words.append(bytes(a ^ b for a, b in zip(word, words[index - per_key], strict=True)))
    return [b"".join(words[n : n + 4]) for n in range(0, len(words), 4)]


def _unmix(state: bytes) -> bytes:
    out = bytearray()
    for start in range(0, BLOCK, 4):
        a, b, c, d = state[start : start + 4]
        for w, x, y, z in ((a, b, c, d), (b, c, d, a), (c, d, a, b), (d, a, b, c)):
            out.append(_TIMES[14][w] ^ _TIMES[11][x] ^ _TIMES[13][y] ^ _TIMES[9][z])
    return bytes(out)


def _decrypt_block(keys: list[bytes], block: bytes) -> bytes:
    state = bytes(a ^ b for a, b in zip(block, keys[-1], strict=True))
    for key in keys[-2::-1]:
        state = bytes(_INVERSE[state[place]] for place in _SHIFTED)
        state = bytes(a ^ b for a, b in zip(state, key, strict=True))
        if key is not keys[0]:
            state = _unmix(state)
    return state


def decrypt_cbc(key: bytes, iv: bytes, data: bytes) -> bytes:
    """What was encrypted with 32 bytes of `key`; `data` are whole blocks of 16 bytes."""
    keys = _round_keys(key)
    plain = bytearray()
    for start in range(0, len(data), BLOCK):
        block = data[start : start + BLOCK]
        plain += bytes(a ^ b for a, b in zip(_decrypt_block(keys, block), iv, strict=True))
        iv = block
    return bytes(plain)
