"""The qtest server: test programs drive ports, memory, interrupt lines and the guest's clock.

One request a line, words between single spaces, one answer each. Lines that the real server
dies of (a word missing, a number that is none) are answered with FAIL.

See system/qtest.c: qtest_process_command() and qtest_process_inbuf().
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from fakeqemu.clock import SECOND, VirtualClock
from fakeqemu.model.qdev.device import DeviceObject
from fakeqemu.model.qom.tree import QomObject, resolve_from
from fakeqemu.qapi.errors import NotModelledError
from fakeqemu.qapi.json.utf8 import c_bytes

if TYPE_CHECKING:
    from fakeqemu.model.chardev.chardev import Chardev
    from fakeqemu.model.machine import Machine

_NUMBER = re.compile(r"\s*([+-]?)(0[xX][0-9a-fA-F]+|\d+)")
_SIZES = {"b": 1, "w": 2, "l": 4, "q": 8}
_ADDRESS = (1 << 64) - 1
_PORTS = 0xFFFF
_UNNAMED = "unnamed-gpio-in"
#: most bytes that one request may read or write: a length costs nothing to name
_MOST_BYTES = 64 << 20
#: requests that are answered before others have their turn
_REQUESTS = 64


class QtestServer:
    """One server on a character device; `log` takes whole lines, None: none is kept."""

    can_hotswap = False

    def __init__(self, vm: Machine, chardev: Chardev, log: Callable[[str], None] | None) -> None:
        self._vm = vm
        self._chardev = chardev
        self._log = log
        #: pieces of a line that has not ended yet
        self._begun: list[bytes] = []
        #: requests not answered yet
        self._lines: list[bytes] = []
        #: they are gone on with in another turn
        self._turn_asked = False
        self._opened: int | None = None
        #: the device whose lines are told, and whether those that come in
        self._intercepted: QomObject | None = None
        self._inward = True
        self._levels: dict[int, int] = {}
        #: levels that set_irq_in has put on lines: (device's path, line)
        self._forced: dict[tuple[str, int], int] = {}
        chardev.attach(self)
        if not vm.process.main_loop_running:
            chardev.pause(True)
            vm.process.on_main_loop.append(lambda: chardev.pause(False))
        # character devices close as QEMU ends; see chardev/char-socket.c: char_socket_finalize()
        vm.process.on_exit.append(lambda _code: self.chr_closed())

    def detach(self) -> None:
        """Let go of the character device."""
        self._chardev.detach()
        self._opened = None

    # -- the character device ----------------------------------------------------------------

    def chr_opened(self) -> None:
        """A test program is there."""
        self._opened = self._vm.clock.now()
        self._levels.clear()
        self._note(f"[I {self._elapsed:.6f}] OPENED")

    def chr_received(self, data: bytes, fds: Sequence[int]) -> None:
        """Requests, or parts of them."""
        for fd in fds:
            self._vm.host.close_fd(fd)
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = b"".join((*self._begun, lines[0]))
            self._begun.clear()
        self._begun.append(rest)
        self._lines += lines
        self._work()

    def _work(self) -> None:
        """Answer some requests; the rest wait until others had their turn."""
        while self._lines and not self._turn_asked:
            for line in self._lines[:_REQUESTS]:
                self._request(line.decode("utf-8", "replace"))
            del self._lines[:_REQUESTS]
            if self._lines:
                self._turn_asked = self._vm.host.yield_turn(self._next_turn)
                self._chardev.pause(self._turn_asked)

    def _next_turn(self) -> None:
        self._turn_asked = False
        self._chardev.pause(False)
        self._work()

    def chr_closed(self) -> None:
        """The test program has disconnected; the machine stays."""
        if self._opened is None:
            return
        self._note(f"[I +{self._elapsed:.6f}] CLOSED")
        self._opened = None

    # -- requests ----------------------------------------------------------------------------

    def _request(self, line: str) -> None:
        words = line.split(" ") if line else [""]
        self._note(f"[R +{self._elapsed:.6f}] {' '.join(words)}")
        name, arguments = words[0], words[1:]
        answer = _ANSWERS.get(name)
        if answer is None or (name in _CLOCK and self._clock is None):
            self._send(f"FAIL Unknown command '{name}'")
            return
        try:
            text = answer(self, *arguments)
        except NotModelledError as error:
            text = f"FAIL {error.desc}"
        except (TypeError, ValueError) as error:
            self._vm.journal.note("qtest-misuse", line, error=str(error))
            text = f"FAIL fakeqemu: '{line}' would have ended a real server"
        except Exception as bug:
            text = f"FAIL {self._vm.guard.report(bug).desc}"
        self._send(text)

    def _send(self, text: str) -> None:
        self._chardev.write(c_bytes(text) + b"\n")
        marked = self._vm.profile.traits.qtest_reports_failure or not text.startswith("ERR")
        self._note(f"[S +{self._elapsed:.6f}] {text}" if marked else text)

    def _note(self, line: str) -> None:
        if self._log is not None:
            self._log(line)

    @property
    def _elapsed(self) -> float:
        return 0.0 if self._opened is None else (self._vm.clock.now() - self._opened) / SECOND

    # -- ports and memory --------------------------------------------------------------------

    def read_port(self, size: int, port: str, *_: str) -> str:
        """inb, inw, inl."""
        return f"OK {self._vm.io.read(_port(port), size):#06x}"

    def write_port(self, size: int, port: str, value: str, *_: str) -> str:
        """outb, outw, outl."""
        self._vm.io.write(_port(port), size, _number(value))
        return "OK"

    def read_value(self, size: int, address: str, *_: str) -> str:
        """readb, readw, readl, readq."""
        return f"OK {int.from_bytes(self._load(_number(address), size), 'little'):#018x}"

    def write_value(self, size: int, address: str, value: str, *_: str) -> str:
        """writeb, writew, writel, writeq."""
        number = _number(value) & (1 << 8 * size) - 1
        self._store(_number(address), number.to_bytes(size, "little"))
        return "OK"

    def read(self, address: str, size: str, *_: str) -> str:
        """Bytes as one hexadecimal number."""
        length = _length(size)
        if not length:
            raise ValueError("no bytes to read")
        return f"OK 0x{self._load(_number(address), length).hex()}"

    def write(self, address: str, size: str, data: str, *_: str) -> str:
        """Bytes from one hexadecimal number, zeros behind its end."""
        at, length = _number(address), _length(size)
        if len(data) < len("0x") + 1:
            return "ERR invalid argument size"
        digits = data[2 : 2 + 2 * length]
        content = bytes.fromhex(digits[: len(digits) // 2 * 2])
        self._store(at, content.ljust(length, b"\0"))
        return "OK"

    def fill(self, address: str, size: str, pattern: str, *_: str) -> str:
        """memset."""
        value = bytes([_number(pattern) & 0xFF])
        self._store(_number(address), value * _length(size))
        return "OK"

    def read_base64(self, address: str, size: str, *_: str) -> str:
        """b64read."""
        content = self._load(_number(address), _length(size))
        return f"OK {base64.b64encode(content).decode()}"

    def write_base64(self, address: str, size: str, data: str, *_: str) -> str:
        """b64write."""
        at, length = _number(address), _length(size)
        if len(data) < len("0x") + 1:
            return "ERR invalid argument size"
        content = base64.b64decode(data)
        if len(content) != length:
            self._note(
                f"[S +{self._elapsed:.6f}] b64write: data length mismatch"
                f" (told {length}, found {len(content)})"
            )
        self._store(at, content[:length])
        return "OK"

    def _load(self, address: int, size: int) -> bytes:
        memory = self._vm.guest_memory
        if not memory.is_mapped(address, size):
            self._vm.journal.note("unclaimed-memory", f"{address:#x}", access="read", size=size)
        return memory.read(address, size)

    def _store(self, address: int, data: bytes) -> None:
        memory = self._vm.guest_memory
        if not memory.is_mapped(address, len(data)):
            where = f"{address:#x}"
            self._vm.journal.note("unclaimed-memory", where, access="write", size=len(data))
        memory.write(address, data)

    # -- time --------------------------------------------------------------------------------

    @property
    def _clock(self) -> VirtualClock | None:
        return self._vm.io.clock.stepped

    def step(self, duration: str | None = None, *_: str) -> str:
        """Let time pass, or come to what is due next."""
        self._vm.io.chips()
        clock = self._clock
        assert clock is not None
        before = clock.now()
        if duration is not None:
            wanted = before + _number(duration, signed=True)
        else:
            due = clock.next_at()
            if due is None:
                if not self._vm.profile.traits.qtest_reports_failure:
                    return f"OK {before}"
                return (
                    "FAIL cannot advance clock to the next deadline because there is no"
                    " pending deadline"
                )
            wanted = due
        clock.advance(max(0, wanted - before))
        if clock.now() == before and self._vm.profile.traits.qtest_reports_failure:
            return "FAIL could not advance time"
        return f"OK {clock.now()}"

    def set_clock(self, moment: str, *_: str) -> str:
        """Let time pass up to a moment; it does not go back."""
        self._vm.io.chips()
        clock = self._clock
        assert clock is not None
        wanted = _number(moment, signed=True)
        clock.advance(max(0, wanted - clock.now()))
        told = self._vm.profile.traits.qtest_reports_failure
        return f"{'FAIL' if told and clock.now() != wanted else 'OK'} {clock.now()}"

    # -- interrupt lines ---------------------------------------------------------------------

    def intercept(self, inward: bool, path: str, name: str | None = None, *_: str) -> str:
        """Tell of the lines of a device from now on."""
        device = self._device(path)
        if device is None:
            return "FAIL Unknown device"
        told = self._vm.profile.traits.qtest_reports_failure
        if told and inward and name is not None:
            return "FAIL Interception of named in-GPIOs not yet supported"
        if self._intercepted is not None:
            same = self._intercepted is device
            return "OK" if same else "FAIL IRQ intercept already enabled"
        if told and not _lines(device, inward, name):
            return "FAIL No intercepts installed"
        self._intercepted, self._inward = device, inward
        self._vm.io.chips()
        self._vm.io.on_irq = self._line_changed
        return "OK"

    def set_line(self, path: str, name: str, line: str, level: str, *_: str) -> str:
        """Force a line that goes into a device."""
        device = self._device(path)
        if device is None:
            return "FAIL Unknown device"
        number, value = _number(line), int(_number(level, signed=True) != 0)
        if name == _UNNAMED and device is self._intercepted and self._inward:
            self._tell(number, value)
        self._forced[device.path, number] = value
        return "OK"

    def _line_changed(self, type: str, line: int, level: int) -> None:
        if self._intercepted is not None and self._intercepted.type == type:
            self._tell(line, level)

    def _tell(self, line: int, level: int) -> None:
        if self._levels.get(line, 0) != level:
            self._levels[line] = level
            self._send(f"IRQ {'raise' if level else 'lower'} {line}")

    def _device(self, path: str) -> DeviceObject | None:
        found, _ = resolve_from(self._vm.qom.root, path)
        return found if isinstance(found, DeviceObject) else None


def _lines(device: QomObject, inward: bool, name: str | None) -> bool:
    """Whether the device has such lines."""
    if inward:
        start: tuple[str, ...] = (f"{_UNNAMED}[",)
    else:
        start = (f"{name}[",) if name is not None else ("unnamed-gpio-out[",)
    return any(each.startswith(start) for each in (*device.shapes, *device.children))


def _number(text: str, *, signed: bool = False) -> int:
    """A number as strtoull takes it; ValueError for anything else."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(f"no number: '{text}'")
    digits = match[2]
    octal = digits.startswith("0") and digits[1:2].lower() != "x" and len(digits) > 1
    value = int(digits, 8 if octal else 0)
    value = -value if match[1] == "-" else value
    return value if signed else value & _ADDRESS


def _length(text: str) -> int:
    """How many bytes; NotModelledError for more than we move at a time."""
    length = _number(text)
    if length > _MOST_BYTES:
        raise NotModelledError(f"qtest requests of more than {_MOST_BYTES} bytes")
    return length


def _port(text: str) -> int:
    port = _number(text)
    if port > _PORTS:
        raise ValueError(f"no port: {text}")
    return port


def _sized(
    names: str, method: Callable[..., str], sizes: str
) -> dict[str, Callable[..., str]]:
    def answer(size: int) -> Callable[..., str]:
        return lambda server, *words: method(server, size, *words)

    return {names + letter: answer(_SIZES[letter]) for letter in sizes}


#: those that need a clock that stands still
_CLOCK = frozenset({"clock_step", "clock_set"})
#: first word of a request -> what answers it
_ANSWERS: Mapping[str, Callable[..., str]] = {
    **_sized("in", QtestServer.read_port, "bwl"),
    **_sized("out", QtestServer.write_port, "bwl"),
    **_sized("read", QtestServer.read_value, "bwlq"),
    **_sized("write", QtestServer.write_value, "bwlq"),
    "read": QtestServer.read,
    "write": QtestServer.write,
    "memset": QtestServer.fill,
    "b64read": QtestServer.read_base64,
    "b64write": QtestServer.write_base64,
    "endianness": lambda _server, *_words: "OK little",
    "clock_step": QtestServer.step,
    "clock_set": QtestServer.set_clock,
    # nothing of this program is in modules that are loaded
    "module_load": lambda _server, _prefix, _name, *_words: "FAIL",
    "irq_intercept_in": lambda server, *words: server.intercept(True, *words),
    "irq_intercept_out": lambda server, *words: server.intercept(False, *words),
    "set_irq_in": QtestServer.set_line,
}
