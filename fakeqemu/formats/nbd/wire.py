"""The NBD protocol's numbers and words, for both sides. See include/block/nbd.h."""

from __future__ import annotations

import errno
import os
import struct

from fakeqemu.qapi.errors import QapiError

INIT_MAGIC, OPTION_MAGIC = b"NBDMAGIC", b"IHAVEOPT"
REPLY_MAGIC = 0x3E889045565A9
REQUEST_MAGIC, SIMPLE_MAGIC, STRUCTURED_MAGIC = 0x25609513, 0x67446698, 0x668E33EF
EXTENDED_REQUEST_MAGIC, EXTENDED_MAGIC = 0x21E41C71, 0x6E8A278C

FIXED_NEWSTYLE, NO_ZEROES = 1, 2

OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_STARTTLS = 1, 2, 3, 5
OPT_INFO, OPT_GO, OPT_STRUCTURED, OPT_LIST_META, OPT_SET_META, OPT_EXTENDED = 6, 7, 8, 9, 10, 11
REP_ACK, REP_SERVER, REP_INFO, REP_META = 1, 2, 3, 4
(
    REP_ERR_UNSUP, REP_ERR_POLICY, REP_ERR_INVALID, REP_ERR_PLATFORM, REP_ERR_TLS_REQD,
    REP_ERR_UNKNOWN, REP_ERR_SHUTDOWN, REP_ERR_BLOCK_SIZE_REQD, REP_ERR_EXT_HEADER_REQD,
) = (1 << 31 | n for n in (1, 2, 3, 4, 5, 6, 7, 8, 10))  # fmt: skip
INFO_EXPORT, INFO_NAME, INFO_DESCRIPTION, INFO_BLOCK_SIZE = 0, 1, 2, 3

#: transmission flags
HAS_FLAGS, READ_ONLY, SEND_FLUSH, SEND_FUA = 1, 2, 4, 8
SEND_TRIM, SEND_ZEROES, SEND_DF, MULTI_CONN, SEND_CACHE, FAST_ZERO = 32, 64, 128, 256, 1024, 2048
BLOCK_STAT_PAYLOAD = 4096

CMD_READ, CMD_WRITE, CMD_DISC, CMD_FLUSH, CMD_TRIM, CMD_CACHE, CMD_ZEROES, CMD_STATUS = (
    0, 1, 2, 3, 4, 5, 6, 7,
)  # fmt: skip
#: flags of a request
FLAG_FUA, FLAG_NO_HOLE, FLAG_DF, FLAG_REQ_ONE, FLAG_FAST_ZERO, FLAG_PAYLOAD = 1, 2, 4, 8, 16, 32

#: magic, flags, type, cookie, offset, length
REQUEST = struct.Struct(">IHHQQI")
EXTENDED_REQUEST = struct.Struct(">IHHQQQ")

#: kinds of reply chunks
CHUNK_NONE, CHUNK_DATA, CHUNK_HOLE, CHUNK_STATUS, CHUNK_STATUS_EXT = 0, 1, 2, 5, 6
CHUNK_ERROR = 1 << 15 | 1
CHUNK_DONE = 1

#: what base:allocation says of an extent
STATE_HOLE, STATE_ZERO = 1, 2
#: what a bitmap's context says of an extent
STATE_DIRTY = 1

#: the longest payload, in bytes, and the longest name
LARGEST, LONGEST_NAME = 32 << 20, 4096

_OPTIONS = {
    OPT_EXPORT_NAME: "export name", OPT_ABORT: "abort", OPT_LIST: "list", OPT_STARTTLS: "starttls",
    OPT_INFO: "info", OPT_GO: "go", OPT_STRUCTURED: "structured reply",
    OPT_LIST_META: "list meta context", OPT_SET_META: "set meta context",
    OPT_EXTENDED: "extended headers",
}  # fmt: skip
_REPLIES = {
    REP_ACK: "ack", REP_SERVER: "server", REP_INFO: "info", REP_META: "meta context",
    REP_ERR_UNSUP: "unsupported", REP_ERR_POLICY: "denied by policy", REP_ERR_INVALID: "invalid",
    REP_ERR_PLATFORM: "platform lacks support", REP_ERR_TLS_REQD: "TLS required",
    REP_ERR_UNKNOWN: "export unknown", REP_ERR_SHUTDOWN: "server shutting down",
    REP_ERR_BLOCK_SIZE_REQD: "block size required",
}  # fmt: skip
_COMMANDS = (
    "read", "write", "disconnect", "flush", "trim", "cache", "write zeroes", "block status",
)  # fmt: skip
#: errors that the protocol has; others are EINVAL, or one of these
_ERRORS = {
    errno.EPERM: errno.EPERM, errno.EROFS: errno.EPERM, errno.EIO: errno.EIO,
    errno.ENOMEM: errno.ENOMEM, errno.EDQUOT: errno.ENOSPC, errno.EFBIG: errno.ENOSPC,
    errno.ENOSPC: errno.ENOSPC, errno.EOVERFLOW: errno.EOVERFLOW, errno.ENOTSUP: errno.ENOTSUP,
    errno.ESHUTDOWN: errno.ESHUTDOWN,
}  # fmt: skip
_BY_TEXT = {os.strerror(number): number for number in sorted(errno.errorcode, reverse=True)}


def option_name(option: int, *, extended: bool = True) -> str:
    """An option as error texts name it. See nbd/common.c: nbd_opt_lookup()."""
    if option == OPT_EXTENDED and not extended:
        return "<unknown>"
    return _OPTIONS.get(option, "<unknown>")


def reply_name(reply: int) -> str:
    """An option's reply as error texts name it. See nbd/common.c: nbd_rep_lookup()."""
    return _REPLIES.get(reply, "<unknown>")


def command_name(command: int) -> str:
    """A request's type as error texts name it. See nbd/common.c: nbd_cmd_lookup()."""
    return _COMMANDS[command] if command < len(_COMMANDS) else "<unknown>"


def system_error(number: int) -> int:
    """The error number of an answer. See nbd/common.c: nbd_errno_to_system_errno()."""
    return number if number in _ERRORS.values() else errno.EINVAL


def wire_error(error: OSError | QapiError) -> int:
    """The error number of a failed access, as the protocol has it.

    See nbd/server.c: system_errno_to_nbd_errno().
    """
    if isinstance(error, OSError):
        number = error.errno or errno.EIO
    else:
        number = _BY_TEXT.get(error.desc, errno.EIO)
    return _ERRORS.get(number, errno.EINVAL)
