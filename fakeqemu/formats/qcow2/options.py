"""What a user may set of how a qcow2 image is handled: QEMU's own options, and their limits.

See block/qcow2.c: qcow2_update_options_prepare() and read_cache_sizes(). Sizes of caches and the
like are checked, and change nothing here: tables take the room that they need.
"""

from __future__ import annotations

from typing import Any

from fakeqemu.formats.qcow2.header import LAZY_REFCOUNTS
from fakeqemu.formats.qcow2.image import Qcow2
from fakeqemu.formats.qcow2.tables import TEMPLATES
from fakeqemu.qapi.errors import QapiError

#: the options; blockdev-reopen may leave them out, and so set them back
NAMES = (
    "lazy-refcounts", "pass-discard-request", "pass-discard-snapshot", "pass-discard-other",
    "discard-no-unref", "overlap-check", "cache-size", "l2-cache-size",
    "l2-cache-entry-size", "refcount-cache-size", "cache-clean-interval", "keep-data-file-open",
)  # fmt: skip
_CACHE_SIZES = ("cache-size", "l2-cache-size", "refcount-cache-size")
_LONGEST_INTERVAL = (1 << 32) - 1
_INT_MAX = (1 << 31) - 1
_CRYPT_NAMES = {1: "aes", 2: "luks"}


def take(image: Qcow2, options: dict[str, Any], *, unmap: bool) -> None:
    """Take the options out of `options`, and let them count. Raises QapiError.

    `unmap`: whether the node passes on to its file what guests discard.
    """
    _check_caches(image, options)
    if options.get("cache-clean-interval", 0) > _LONGEST_INTERVAL:
        raise QapiError("Cache clean interval too big")
    lazy = options.get("lazy-refcounts", bool(image.header.compatible & LAZY_REFCOUNTS))
    if lazy and image.header.version < 3:
        raise QapiError(
            "Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level"
        )
    keep = options.get("discard-no-unref", False)
    if keep and image.header.version < 3:
        raise QapiError("discard-no-unref is only supported since qcow2 version 3")
    _check_encryption(image.header.crypt_method, options.pop("encrypt", None))
    image.lazy, image.keep_references = lazy, keep
    image.overlaps.checks = _overlap_checks(options.get("overlap-check", "cached"))
    passed = {"always": True}
    for kind, default in (("request", unmap), ("snapshot", True), ("other", False)):
        passed[kind] = options.get(f"pass-discard-{kind}", default)
    image.discards = frozenset(kind for kind, on in passed.items() if on)
    for name in NAMES:
        options.pop(name, None)


def _check_caches(image: Qcow2, options: dict[str, Any]) -> None:
    sizes = {name: options[name] for name in _CACHE_SIZES if name in options}
    if len(sizes) == len(_CACHE_SIZES):
        raise QapiError(
            "cache-size, l2-cache-size and refcount-cache-size may not be set at the same time"
        )
    if "cache-size" in sizes:
        for name in _CACHE_SIZES[1:]:
            if sizes.get(name, 0) > sizes["cache-size"]:
                raise QapiError(f"{name} may not exceed cache-size")
    entry = options.get("l2-cache-entry-size")
    if entry is not None and (entry & entry - 1 or not 512 <= entry <= image.cluster):
        raise QapiError(
            "L2 cache entry size must be a power of two between 512"
            f" and the cluster size ({image.cluster})"
        )
    if sizes.get("refcount-cache-size", 0) // image.cluster > _INT_MAX:
        raise QapiError("Refcount cache size too big")


def _overlap_checks(wanted: str | dict[str, Any]) -> frozenset[str]:
    """Qcow2OverlapChecks: a template, or one with single kinds set otherwise."""
    if isinstance(wanted, str):
        return TEMPLATES[wanted]
    found = set(TEMPLATES[wanted.get("template", "cached")])
    for name, on in wanted.items():
        if name != "template":
            (found.add if on else found.discard)(name)
    return frozenset(found)


def _check_encryption(method: int, wanted: dict[str, Any] | None) -> None:
    """Whether the header's method of encryption is one, and that which the options say."""
    format = wanted.get("format") if wanted is not None else None
    if method == 0:
        if format is not None:
            raise QapiError(
                f"No encryption in image header, but options specified format '{format}'"
            )
        return
    if method not in _CRYPT_NAMES:
        signed = method - (1 << 32) if method >= 1 << 31 else method
        raise QapiError(f"Unsupported encryption method {signed}")
    name = _CRYPT_NAMES[method]
    if format is not None and format != name:
        raise QapiError(
            f"Header reported '{name}' encryption format but options specify '{format}'"
        )
