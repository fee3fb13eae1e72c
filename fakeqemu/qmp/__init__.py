"""The protocol without I/O: bytes in, bytes out.

`session` is one client's conversation, `dispatch` runs requests one at a time over all
sessions, `events` sends what the machine emits, `monitor` puts sessions on a character device.
"""
