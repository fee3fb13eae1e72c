"""Lists among the machine's properties: what real 7.2, 10.0 and 11.1 say of each."""

from __future__ import annotations

import pytest

from fakeqemu.qapi.errors import StartupError
from tests.support.machines import Booted

WINDOW = "cxl-fmw.0.targets.0=x,cxl-fmw.0.size=4G"


def cache(number: int, cache: str, topology: str) -> str:
    return f"smp-cache.{number}.cache={cache},smp-cache.{number}.topology={topology}"


def boot(options: str, profile: str = "10.0") -> None:
    Booted("-machine", f"q35,{options}", "-S", profile=profile)


@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("sgx-epc=x", "Invalid parameter type for 'sgx-epc', expected: array"),
        ("sgx-epc.0.memdev=x", "Parameter 'sgx-epc.0.node' is missing"),
        ("sgx-epc.0.memdev=x,sgx-epc.0.node=0", "Device 'x' not found"),
        ("cxl-fmw=x", "Invalid parameter type for 'cxl-fmw', expected: array"),
        ("cxl-fmw.0.targets.0=x", "Parameter 'cxl-fmw.0.size' is missing"),
        (f"cxl=on,{WINDOW}", "Could not resolve CXLFM target x"),
        (f"{WINDOW},cxl-fmw.0.interleave-granularity=7", "Interleave granularity: 7 invalid"),
        (WINDOW + "".join(f",cxl-fmw.0.targets.{n}=x" for n in range(1, 5)),
         "Interleave ways: 5 not supported"),
        ("cxl-fmw.0.targets.0=x,cxl-fmw.0.size=3M", " a multiple of 256MiB"),
    ],
)  # fmt: skip
def test_refused(profile: str, options: str, text: str) -> None:
    with pytest.raises(StartupError, match=text):
        boot(options, profile)


@pytest.mark.parametrize("profile", ["10.0", "11.1"])
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("smp-cache=1", "Invalid parameter type for 'smp-cache', expected: array"),
        ("smp-cache.0.cache=l1d", "Parameter 'smp-cache.0.topology' is missing"),
        (cache(0, "l1d", "bad"), "Parameter 'topology' does not accept value 'bad'"),
        (cache(0, "l1d", "thread"), "thread level cache not supported by this machine"),
        (cache(0, "l3", "book"), "Invalid topology level: book. The topology level is not"),
        (cache(0, "l1d", "die"), "L2 cache topology level shouldn't be lower than L1 cache"),
        (cache(0, "l2", "socket"), "L3 cache topology level shouldn't be lower than L2 cache"),
        (f"{cache(0, 'l1d', 'core')},{cache(1, 'l1d', 'core')}", "properties are duplicated"),
    ],
)
def test_refused_caches(profile: str, options: str, text: str) -> None:
    with pytest.raises(StartupError, match=text):
        boot(options, profile)


@pytest.mark.parametrize(
    "options", [WINDOW, cache(0, "l1d", "core"), cache(0, "l3", "core"), cache(0, "l2", "default")]
)
def test_taken(options: str) -> None:
    """A window leads nowhere where the machine has no CXL, as in QEMU."""
    boot(options)


def test_memory_for_enclaves_is_not_modelled() -> None:
    with pytest.raises(StartupError, match="fakeqemu does not model '-machine sgx-epc'"):
        Booted(
            "-object", "memory-backend-ram,id=x,size=1M", "-S", "-machine",
            "q35,sgx-epc.0.memdev=x,sgx-epc.0.node=0", profile="10.0",
        )  # fmt: skip
