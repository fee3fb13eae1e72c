"""-fsdev: folders of the host that a guest shares.

Whether the folder is there is looked at by the device that takes it (`model.qdev.realize_checks`).

See fsdev/qemu-fsdev.c: qemu_fsdev_add(); hw/9pfs/9p-local.c: local_parse_opts();
fsdev/qemu-fsdev-throttle.c: fsdev_throttle_parse_opts(); hw/9pfs/9p-proxy.c:
proxy_parse_opts() (7.2).
"""

from __future__ import annotations

from fakeqemu.configuration import OptionString
from fakeqemu.model.qom.throttle_limits import check_limits
from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import QapiError, StartupError
from fakeqemu.qapi.readers.qemu_opts import parse_number

#: the helper program's driver, which newer versions do not have
_PROXY = "proxy"
#: driver -> the keys it takes beyond those of all; `throttling.`: all that begin so
_KEYS = {
    "local": ("security_model", "path", "writeout", "fmode", "dmode", "multidevs", "throttling."),
    "synth": (),
    _PROXY: ("socket", "sock_fd", "writeout"),
}  # fmt: skip
_COMMON = ("id", "fsdriver", "readonly", "max_xattr")
_SECURITY_MODELS = ("passthrough", "mapped-xattr", "mapped-file", "none", "mapped")
_SECURITY_HINT = "Valid options are: security_model=[passthrough|mapped-xattr|mapped-file|none]"
_DEVICES = ("remap", "forbid", "warn")
_LARGEST_XATTR = 0xFFFFFFFF
_WAYS = ("total", "read", "write")


def check_fsdev(entry: OptionString, profile: Profile) -> None:
    """-fsdev. Raises StartupError."""
    try:
        _check(entry, profile)
    except QapiError as exc:
        raise StartupError(exc.desc, location=entry.location, hint=exc.hint) from exc


def _check(entry: OptionString, profile: Profile) -> None:
    if entry.id is None:
        raise QapiError("fsdev: No id specified")
    driver = entry.values.get("fsdriver")
    if driver is None:
        raise QapiError("fsdev: No fsdriver specified")
    if driver not in _KEYS or (driver == _PROXY and not profile.traits.fsdev_proxy):
        raise QapiError(f"fsdev: fsdriver {driver} not found")
    for key, _ in entry.pairs:
        if key not in (*_COMMON, *_KEYS[driver]) and key.split(".")[0] + "." not in _KEYS[driver]:
            raise QapiError(f"'{key}' is invalid for fsdriver '{driver}'")
    if driver == "local":
        _check_local(entry)
    elif driver == _PROXY and "socket" in entry.values and "sock_fd" in entry.values:
        raise QapiError("both socket and sock_fd properties are set")
    elif driver == _PROXY and not ("socket" in entry.values or "sock_fd" in entry.values):
        raise QapiError("both socket and sock_fd properties are missing")


def _check_local(entry: OptionString) -> None:
    values = entry.values
    if "max_xattr" in values and _number(entry, "max_xattr", 0) > _LARGEST_XATTR:
        raise QapiError(f"max_xattr value '{values['max_xattr']}' too large")
    model = values.get("security_model")
    if model is None:
        raise QapiError("security_model property not set", hint=_SECURITY_HINT)
    if model not in _SECURITY_MODELS:
        raise QapiError(f"invalid security_model property '{model}'", hint=_SECURITY_HINT)
    devices = values.get("multidevs", _DEVICES[0])
    if devices not in _DEVICES:
        raise QapiError(f"invalid multidevs property '{devices}'",
                        hint=f"Valid options are: multidevs=[{'|'.join(_DEVICES)}]")
    if "path" not in values:
        raise QapiError("path property not set")
    limits = {"iops-size": _number(entry, "throttling.iops-size", 0)}
    for kind in (f"{unit}-{way}" for unit in ("bps", "iops") for way in _WAYS):
        for end, default in (("", 0), ("-max", 0), ("-max-length", 1)):
            limits[kind + end] = _number(entry, f"throttling.{kind}{end}", default)
    try:
        check_limits(limits)
    except QapiError as exc:
        raise exc.prefixed("invalid throttle configuration: ") from None
    if not model.startswith("mapped"):
        for key in ("fmode", "dmode"):
            if key in values:
                raise QapiError(f"{key} is only valid for mapped security modes")


def _number(entry: OptionString, key: str, default: int) -> int:
    return parse_number(key, entry.values[key]) if key in entry.values else default
