"""DES in its plainest form, one block at a time: VNC's password authentication is built on it.

Python has none. It protects nothing today; here it only has to agree with VNC clients.

See ui/vnc.c: protocol_client_auth_vnc(); crypto/cipher.c: qcrypto_cipher_new().
"""

from __future__ import annotations


def _bits(value: int, width: int, table: tuple[int, ...]) -> int:
    """The bits of `value` that `table` names, from the highest (1) to the lowest (`width`)."""
    out = 0
    for position in table:
        out = out << 1 | value >> (width - position) & 1
    return out


_IP = tuple(start - 8 * n for start in (58, 60, 62, 64, 57, 59, 61, 63) for n in range(8))
_FP = tuple(_IP.index(n) + 1 for n in range(1, 65))
_E = tuple((4 * block + offset - 1) % 32 + 1 for block in range(8) for offset in range(6))
_P = (16, 7, 20, 21, 29, 12, 28, 17, 1, 15, 23, 26, 5, 18, 31, 10,
      2, 8, 24, 14, 32, 27, 3, 9, 19, 13, 30, 6, 22, 11, 4, 25)  # fmt: skip
_PC1 = (57, 49, 41, 33, 25, 17, 9, 1, 58, 50, 42, 34, 26, 18,
        10, 2, 59, 51, 43, 35, 27, 19, 11, 3, 60, 52, 44, 36,
        63, 55, 47, 39, 31, 23, 15, 7, 62, 54, 46, 38, 30, 22,
        14, 6, 61, 53, 45, 37, 29, 21, 13, 5, 28, 20, 12, 4)  # fmt: skip
_PC2 = (14, 17, 11, 24, 1, 5, 3, 28, 15, 6, 21, 10, 23, 19, 12, 4,
        26, 8, 16, 7, 27, 20, 13, 2, 41, 52, 31, 37, 47, 55, 30, 40,
        51, 45, 33, 48, 44, 49, 39, 56, 34, 53, 46, 42, 50, 36, 29, 32)  # fmt: skip
_SHIFTS = (1, 1, 2, 2, 2, 2, 2, 2, 1, 2, 2, 2, 2, 2, 2, 1)
#: the eight boxes, four rows of sixteen hexadecimal digits each
_S = tuple(
    tuple(int(digit, 16) for digit in box)
    for box in (
        "e4d12fb83a6c5907" "0f74e2d1a6cb9538" "41e8d62bfc973a50" "fc8249175b3ea06d",
        "f18e6b34972dc05a" "3d47f28ec01a69b5" "0e7ba4d158c6932f" "d8a13f42b67c05e9",
        "a09e63f51dc7b428" "d709346a285ecbf1" "d6498f30b12c5ae7" "1ad069874fe3b52c",
        "7de3069a1285bc4f" "d8b56f03472c1ae9" "a690cb7df13e5284" "3f06a1d8945bc72e",
        "2c417ab6853fd0e9" "eb2c47d150fa3986" "421bad78f9c5630e" "b8c71e2d6f09a453",
        "c1af92680d34e75b" "af427c9561de0b38" "9ef528c3704a1db6" "432c95fabe17608d",
        "4b2ef08d3c975a61" "d0b7491ae35c2f86" "14bdc37eaf680592" "6bd814a7950fe23c",
        "d2846fb1a93e50c7" "1fd8a374c56b0e92" "7b419ce206adf358" "21e74a8dfc90356b",
    )
)


def encrypt(key: bytes, data: bytes) -> bytes:
    """`data` (whole blocks of 8 bytes) encrypted with an 8-byte key."""
    keys = _round_keys(int.from_bytes(key, "big"))
    blocks = (data[at : at + 8] for at in range(0, len(data), 8))
    return b"".join(_block(int.from_bytes(block, "big"), keys) for block in blocks)


def _round_keys(key: int) -> list[int]:
    both = _bits(key, 64, _PC1)
    left, right = both >> 28, both & 0xFFFFFFF
    keys = []
    for shift in _SHIFTS:
        left = (left << shift | left >> (28 - shift)) & 0xFFFFFFF
        right = (right << shift | right >> (28 - shift)) & 0xFFFFFFF
        keys.append(_bits(left << 28 | right, 56, _PC2))
    return keys


def _block(value: int, keys: list[int]) -> bytes:
    value = _bits(value, 64, _IP)
    left, right = value >> 32, value & 0xFFFFFFFF
    for key in keys:
        left, right = right, left ^ _feistel(right, key)
    return _bits(right << 32 | left, 64, _FP).to_bytes(8, "big")


def _feistel(half: int, key: int) -> int:
    mixed = _bits(half, 32, _E) ^ key
    out = 0
    for number, box in enumerate(_S):
        six = mixed >> (42 - 6 * number) & 0x3F
        row = six >> 4 & 2 | six & 1
        out = out << 4 | box[row << 4 | six >> 1 & 0xF]
    return _bits(out, 32, _P)
