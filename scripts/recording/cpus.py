"""CPU features that TCG does not have, as QEMU warns of them.

Part `cpu-features`: {"unsupported": [[name, text], ...]} in the order of the warnings; `text` is
what follows "TCG doesn't support requested feature: ", such as `CPUID.01H:EDX.vme [bit 1]`.

See target/i386/cpu.c: x86_cpu_filter_features().
"""

from __future__ import annotations

import subprocess
from typing import Any

from recording.parts import NONE
from recording.qemu import Qemu

_MODEL = "base"
_WARNING = "TCG doesn't support requested feature: "
#: switches that decide about features, or about the CPU as a device, and one (mpx) that another
#: excludes
_OTHERS = frozenset({"check", "enforce", "force-features", "start-powered-off", "mpx"})
_QUIT = '{"execute":"qmp_capabilities"}\n{"execute":"quit"}\n'
_DEADLINE = 60


def record_cpu_features(binary: str) -> dict[str, Any]:
    """The part, from a model without features that is asked for all of them."""
    with Qemu(binary, *NONE) as qemu:
        entries = qemu.value("device-list-properties", {"typename": f"{_MODEL}-x86_64-cpu"})
    names = [
        entry["name"]
        for entry in entries
        if entry["type"] == "bool" and entry["name"] not in _OTHERS
        # Hyper-V's are no bits, and others' names are those of older machine types
        and not entry["name"].startswith(("hv-", "x-"))
    ]
    wanted = ",".join([_MODEL, *(f"+{name}" for name in names)])
    ended = subprocess.run(
        [binary, "-machine", "pc", "-nodefaults", "-display", "none", "-S", "-accel", "tcg",
         "-cpu", wanted, "-qmp", "stdio"],
        input=_QUIT, capture_output=True, text=True, timeout=_DEADLINE, check=True,
    )  # fmt: skip
    found = []
    for line in ended.stderr.splitlines():
        _, warning, text = line.partition(_WARNING)
        if warning:
            found.append([_name(text, names), text])
    return {"cpu-features": {"unsupported": found}}


def _name(text: str, names: list[str]) -> str:
    """The feature that a warning is about: `CPUID.01H:ECX.sse4.1 [bit 19]` is of sse4.1."""
    word = text.partition(" [bit")[0]
    return max((name for name in names if word.endswith(f".{name}")), key=len, default="")
