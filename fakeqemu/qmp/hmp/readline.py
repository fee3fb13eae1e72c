"""One edited line of the human monitor: keys in, terminal output out, a finished line called back.

The output is part of the protocol: programs read it. After each key the whole line is drawn
again, from its start, unless nothing changed.

See util/readline.c: readline_handle_byte() and readline_update().
"""

from __future__ import annotations

from collections.abc import Callable

_LEFT, _RIGHT, _CLEAR_TO_END = "\x1b[D", "\x1b[C", "\x1b[K"
_LINE_LIMIT = 4095
_HISTORY_LIMIT = 64
_COMPLETIONS_LIMIT = 256
_WIDTH = 80

#: completes the text before the cursor: candidates, and how much of each is typed already
Completer = Callable[[str], tuple[list[str], int]]


class Readline:
    """The state of one terminal's line."""

    def __init__(
        self,
        write: Callable[[str], None],
        run: Callable[[str], None],
        complete: Completer,
        prompt: str,
        history: list[str],
    ) -> None:
        self._write = write
        self._run = run
        self._complete = complete
        self._prompt = prompt
        #: lines typed, oldest first
        self.history = history
        self._text = ""
        self._at = 0
        self._drawn = ""
        self._drawn_at = 0
        self._entry: int | None = None
        #: the sequence under way: "" none, "\x1b", "[" or "O"
        self._escape = ""
        self._parameter = 0

    def show_prompt(self) -> None:
        """Begin a line on the screen."""
        self._write(self._prompt)
        self._drawn, self._drawn_at = "", 0
        self._escape = ""

    def restart(self) -> None:
        """Forget what was typed."""
        self._text, self._at = "", 0

    def feed(self, byte: int) -> None:
        """One key, or a byte of one."""
        if self._escape:
            self._escaped(chr(byte))
        elif byte in (10, 13):
            self._enter()
        elif byte == 27:
            self._escape = "\x1b"
        elif byte == 155:
            self._escape, self._parameter = "[", 0
        elif byte in _KEYS:
            _KEYS[byte](self)
        elif byte >= 32:
            self._insert(chr(byte))
        self._redraw()

    # -- keys --------------------------------------------------------------------------------

    def _enter(self) -> None:
        line = self._text
        self._remember(line)
        self._write("\n")
        self.restart()
        self._drawn, self._drawn_at = "", 0
        self._run(line)

    def _insert(self, char: str) -> None:
        if len(self._text) < _LINE_LIMIT:
            self._text = self._text[: self._at] + char + self._text[self._at :]
            self._at += 1

    def _start(self) -> None:
        self._at = 0

    def _end(self) -> None:
        self._at = len(self._text)

    def _left(self) -> None:
        self._at = max(0, self._at - 1)

    def _right(self) -> None:
        self._at = min(len(self._text), self._at + 1)

    def _delete(self) -> None:
        self._text = self._text[: self._at] + self._text[self._at + 1 :]

    def _backspace(self) -> None:
        if self._at:
            self._left()
            self._delete()

    def _kill(self) -> None:
        self._text, self._at = self._text[self._at :], 0

    def _kill_word(self) -> None:
        if not self._at:
            return
        start = self._at - 1
        while start > 0 and self._text[start].isspace():
            start -= 1
        while start > 0:
            if self._text[start].isspace():
                start += 1
                break
            start -= 1
        self._text = self._text[:start] + self._text[self._at :]
        self._at = start

    def _clear_screen(self) -> None:
        self._write("\x1b[2J\x1b[1;1H")
        self.show_prompt()

    def _previous(self) -> None:
        if self._entry == 0 or not self.history:
            return
        self._entry = (len(self.history) if self._entry is None else self._entry) - 1
        self._show(self.history[self._entry])

    def _next(self) -> None:
        if self._entry is None:
            return
        if self._entry + 1 < len(self.history):
            self._entry += 1
            self._show(self.history[self._entry])
        else:
            self._entry = None
            self._show("")

    def _show(self, text: str) -> None:
        self._text, self._at = text, len(text)

    def _remember(self, line: str) -> None:
        if not line:
            return
        if line in self.history:
            self.history.remove(line)
        elif self._entry is not None and self._entry < len(self.history):
            del self.history[self._entry]
        self.history.append(line)
        del self.history[:-_HISTORY_LIMIT]
        self._entry = None

    def _completion(self) -> None:
        found, typed = self._complete(self._text[: self._at])
        names = list(dict.fromkeys(found))[:_COMPLETIONS_LIMIT]
        if not names:
            return
        if len(names) == 1:
            ending = "" if names[0].endswith("/") or not names[0] else " "
            for char in names[0][typed:] + ending:
                self._insert(char)
            return
        names.sort()
        self._write("\n")
        for char in _common_prefix(names)[typed:]:
            self._insert(char)
        width = min(max(max(map(len, names)) + 2, 10), _WIDTH)
        columns = _WIDTH // width
        for start in range(0, len(names), columns):
            row = names[start : start + columns]
            self._write("".join(name.ljust(width) for name in row) + "\n")
        self.show_prompt()

    def _escaped(self, char: str) -> None:
        kind, self._escape = self._escape, ""
        if kind == "\x1b":
            if char in "[O":
                self._escape, self._parameter = char, 0
        elif kind == "O":
            _SS3.get(char, _ignore)(self)
        elif char in "0123456789":
            self._parameter = self._parameter * 10 + int(char)
            self._escape = kind
        elif char == "~":
            _TILDE.get(self._parameter, _ignore)(self)
        else:
            _CSI.get(char, _ignore)(self)

    # -- screen ------------------------------------------------------------------------------

    def _redraw(self) -> None:
        if self._text != self._drawn:
            self._write(_LEFT * self._drawn_at + self._text + _CLEAR_TO_END)
            self._drawn = self._text
            self._drawn_at = len(self._text)
        move = self._at - self._drawn_at
        if move:
            self._write(_RIGHT * move if move > 0 else _LEFT * -move)
            self._drawn_at = self._at


def _ignore(_line: Readline) -> None:
    """A sequence that means nothing here."""


def _common_prefix(names: list[str]) -> str:
    first, last = names[0], names[-1]
    length = 0
    while length < min(len(first), len(last)) and first[length] == last[length]:
        length += 1
    return first[:length]


_Key = Callable[[Readline], None]

# The editor's own keys; they reach into its private methods because they are its methods.
_KEYS: dict[int, _Key] = {
    1: Readline._start,
    4: Readline._delete,
    5: Readline._end,
    8: Readline._backspace,
    9: Readline._completion,
    12: Readline._clear_screen,
    14: Readline._next,
    16: Readline._previous,
    21: Readline._kill,
    23: Readline._kill_word,
    127: Readline._backspace,
}
_CSI: dict[str, _Key] = {
    "A": Readline._previous,
    "F": Readline._previous,
    "B": Readline._next,
    "E": Readline._next,
    "C": Readline._right,
    "D": Readline._left,
}
_SS3: dict[str, _Key] = {"F": Readline._end, "H": Readline._start}
_TILDE: dict[int, _Key] = {1: Readline._start, 3: Readline._delete, 4: Readline._end}
