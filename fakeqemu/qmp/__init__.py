"""The protocol without I/O: bytes in, bytes out.

`session` is one client's conversation, `connection` joins it to what carries its bytes,
`request_loop` has the requests of all clients carried out, `dispatch` executes commands,
`events` limits what the machine emits, `monitor` sits on a character device.
"""
