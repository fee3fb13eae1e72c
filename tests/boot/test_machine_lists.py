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


@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("memory-encryption=x", "No such memory encryption object 'x'"),
        ("confidential-guest-support=x", "Device 'x' not found"),
        ("pcspk-audiodev=x", "x"),
        ("peripheral=x", "-machine.peripheral' is not writable"),
        ("unattached=x", "-machine.unattached' is not writable"),
        ("rtc-time=x", "-machine.rtc-time' not found"),
    ],
)
def test_what_names_nothing(profile: str, options: str, text: str) -> None:
    with pytest.raises(StartupError) as refused:
        boot(options, profile)
    assert text in refused.value.text
    if options.startswith("pcspk"):
        old = profile == "7.2"
        assert refused.value.text == (
            "Property 'isa-pcspk.audiodev' can't find value 'x'" if old
            else "audiodev 'x' not found"
        )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"),
    [("piix3", "does not accept value 'piix3'"), ("piix4-isa", "fakeqemu does not model")],
)
def test_another_south_bridge(value: str, text: str) -> None:
    with pytest.raises(StartupError, match=text):
        Booted("-machine", f"pc,x-south-bridge={value}", "-S", profile="10.0")
    Booted("-machine", "pc,x-south-bridge=PIIX3", "-S", profile="10.0")


def test_the_speaker_is_heard_where_it_is_asked_for() -> None:
    machine = Booted("-audiodev", "none,id=a", "-machine", "q35,pcspk-audiodev=a", "-S",
                     profile="10.0")  # fmt: skip
    speaker = machine.hmp("info qtree").partition("dev: isa-pcspk")[2]
    assert 'audiodev = "a"' in speaker[:200]
