"""The human monitor as a program or a person at a terminal meets it: prompt, echo, editing.

A frontend of a character device. What a line does is the business of `commands.hmp`; here is
the conversation around it.

See monitor/hmp.c: monitor_read(), monitor_command_cb() and monitor_event().
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from fakeqemu.qapi.json.utf8 import c_bytes
from fakeqemu.qmp.dispatch import dispatcher_of
from fakeqemu.qmp.hmp.readline import Readline

if TYPE_CHECKING:
    from fakeqemu.commands.hmp.registry import HmpMonitor
    from fakeqemu.model.chardev.chardev import Chardev
    from fakeqemu.model.machine import Machine

PROMPT = "(qemu) "
#: keys of one line that are read before others have their turn
_KEYS = 256


class HmpTerminal:
    """One human monitor on a character device. Raises QapiError if the device is in use."""

    can_hotswap = False

    def __init__(self, vm: Machine, chardev: Chardev, *, readline: bool = True) -> None:
        """`readline`: lines are edited and echoed; without, keys are no commands at all."""
        self._vm = vm
        self._edits = readline
        self._chardev = chardev
        self._monitor: HmpMonitor | None = None
        self._fds: list[int] = []
        #: input that waits: for the main loop, or for a command that suspended the monitor
        self._waiting = bytearray()
        self._suspended = 0
        #: lines that were run
        self._lines = 0
        #: keys are being read; they are to be read in another turn
        self._working = self._turn_asked = False
        #: whether output goes out; while a multiplexer looks elsewhere it is held
        self._focused = True
        self._held = bytearray()
        self._greeted = False
        #: whether the prompt is to be shown when the main loop starts
        self._prompt_waits = False
        history: list[str] = []
        self._line = Readline(self._echo, self._run, self._complete, PROMPT, history)
        chardev.attach(self)
        if not vm.process.main_loop_running:
            vm.process.on_main_loop.append(self._main_loop_started)
            vm.process.on_poll.append(self._polled)

    # -- as the device's frontend ------------------------------------------------------------

    def chr_opened(self) -> None:
        """Greet the client."""
        self._vm.fdsets.client_came()
        version = self._vm.profile.version
        number = f"{version.major}.{version.minor}.{version.micro}"
        self._print(f"QEMU {number} monitor - type 'help' for more information\n", None)
        self._greeted = True
        self._prompt()

    def chr_received(self, data: bytes, fds: Sequence[int]) -> None:
        """Keys."""
        hooks = dispatcher_of(self._vm).hooks
        if hooks is None:
            self._typed(data, fds)
        else:
            hooks.hmp_input(self._chardev, data, fds, self._typed)

    def chr_closed(self) -> None:
        """The client has gone; a half-typed line stays for the next one, as in QEMU."""
        self._vm.fdsets.client_left()

    def chr_focus(self, focused: bool) -> None:
        """A multiplexer turned to this frontend, or away from it."""
        if focused == self._focused:
            return
        if not focused and self._greeted and not self._suspended:
            self._print("\n")
        self._focused = focused
        if focused:
            self._write(bytes(self._held))
            self._held.clear()
            if self._greeted:
                self._prompt()

    def detach(self) -> None:
        """Leave the device; the client that is there hears no more."""
        self._chardev.detach()

    # -- for commands that take their time ---------------------------------------------------

    def suspend(self) -> None:
        """Take no more lines, show no prompt, until `resume`."""
        self._suspended += 1

    def resume(self) -> None:
        """Go on: the prompt comes, and what was typed meanwhile is read."""
        self._suspended -= 1
        if not self._suspended:
            self._prompt()
            self._work()

    def take_fd(self) -> int | None:
        """The next descriptor that came along."""
        return self._fds.pop(0) if self._fds else None

    # -- inside ------------------------------------------------------------------------------

    def _typed(self, data: bytes, fds: Sequence[int]) -> None:
        self._fds += fds
        self._waiting += data
        self._work()

    def _print(self, text: str, line: str | None = "") -> None:
        data = c_bytes(text.replace("\n", "\r\n"))
        if self._focused:
            self._write(data, line)
        else:
            self._held += data

    def _echo(self, text: str) -> None:
        # the editor works on bytes, which come back as they came
        self._write(text.replace("\n", "\r\n").encode("latin-1"))

    def _write(self, data: bytes, line: str | None = "") -> None:
        """`line`: which one it answers; None for the banner."""
        hooks = dispatcher_of(self._vm).hooks
        if hooks is None:
            self._chardev.write(data)
        elif data:
            hooks.hmp_output(self._chardev, data, line)

    def _prompt(self) -> None:
        self._prompt_waits = not self._vm.process.main_loop_running
        if self._suspended or not self._focused or self._prompt_waits or not self._edits:
            return
        if self._vm.process.exit_code is None:
            self._line.show_prompt()

    def _polled(self) -> None:
        """Show the prompt that waits: monitor/monitor.c: monitor_accept_input()."""
        if self._prompt_waits and self._chardev.connected and self._edits:
            self._prompt_waits = False
            self._line.show_prompt()

    def _main_loop_started(self) -> None:
        if self._prompt_waits and self._chardev.connected:
            self._prompt()
        self._work()

    def _work(self) -> None:
        """Read keys up to the end of a line; those behind it wait until others had their turn."""
        if self._working:
            return  # called by a line that is being run
        self._working = True
        keys = 0
        while self._reads:
            lines = self._lines
            self._vm.guard.call(self._key, self._waiting.pop(0))
            keys += 1
            if self._waiting and (keys == _KEYS or self._lines != lines):
                self._turn_asked = self._vm.host.yield_turn(self._next_turn)
                self._chardev.pause(self._turn_asked)
                keys = 0
        self._working = False

    def _key(self, byte: int) -> None:
        if self._edits:
            self._line.feed(byte)
        elif byte:
            # a command would be one read that ends with NUL, and reads are of one byte
            self._print("corrupted command\n")

    @property
    def _reads(self) -> bool:
        """Whether there is a key to be read now."""
        if not self._waiting or self._suspended or self._turn_asked:
            return False
        return self._vm.process.main_loop_running and self._vm.process.exit_code is None

    def _next_turn(self) -> None:
        self._turn_asked = False
        self._chardev.pause(False)
        self._work()

    def _run(self, line: str) -> None:
        from fakeqemu.commands.hmp.registry import HmpMonitor, run_hmp

        if self._monitor is None:
            self._monitor = HmpMonitor(self)
            self._monitor.history = self._line.history
        self._lines += 1
        self.suspend()
        typed = line.encode("latin-1").decode("utf-8", "surrogateescape")
        run = partial(run_hmp, self._vm, self._monitor, typed)
        hooks = dispatcher_of(self._vm).hooks
        try:
            text = run() if hooks is None else hooks.hmp_line(self._chardev, typed, run)
        except BaseException:
            self.resume()
            raise
        if isinstance(text, str):
            self._answered(typed, text)
        else:
            text.then(lambda done: self._answered(typed, done.value or ""))

    def _answered(self, line: str, text: str) -> None:
        self._print(text, line)
        self.resume()

    def _complete(self, text: str) -> tuple[list[str], int]:
        from fakeqemu.commands.hmp.definitions import HmpTable

        words = text.split()
        if not text or text[-1].isspace():
            words.append("")
        table = HmpTable.of(self._vm.profile)
        entries = table.commands
        while len(words) > 1:
            entry = table.find(entries, words.pop(0))
            if entry is None:
                return [], 0
            if entry.key == "help":
                continue
            if entry.table is None:
                return [], 0
            entries = entry.table
        names = [
            name
            for entry in entries
            if self._vm.process.phases.ready or entry.preconfig
            for name in entry.name.split("|")
            if name.startswith(words[0])
        ]
        return names, len(words[0])
