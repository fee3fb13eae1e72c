"""QEMU's readers of text: numbers, sizes, switches, identifiers, option strings, addresses.

Each exists once. What a place says of a text that is refused is that place's own affair, so the
readers raise `MalformedError` or `OutOfRangeError` (both ValueError), which tell as much as QEMU's
return values do: -EINVAL and -ERANGE.
"""
