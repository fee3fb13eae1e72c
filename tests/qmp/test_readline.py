"""The line editor, key by key; expectations are what real monitors sent."""

from __future__ import annotations

import pytest

from fakeqemu.qmp.hmp.readline import Readline

NAMES = ["stop", "status", "stats", "quit", "q", "qom-list", "qom-get", "info"]


class Screen:
    """A terminal that remembers."""

    def __init__(self) -> None:
        self.text = ""
        self.lines: list[str] = []
        self.line = Readline(self._write, self.lines.append, self._complete, "(qemu) ", [])

    def _write(self, text: str) -> None:
        self.text += text

    def _complete(self, text: str) -> tuple[list[str], int]:
        return [name for name in NAMES if name.startswith(text)], len(text)

    def type(self, keys: str) -> str:
        """Press keys; what the screen got."""
        self.text = ""
        for byte in keys.encode("latin-1"):
            self.line.feed(byte)
        return self.text


@pytest.fixture
def screen() -> Screen:
    return Screen()


E, D, C = "\x1b[K", "\x1b[D", "\x1b[C"


def test_each_key_draws_the_line_again(screen: Screen) -> None:
    assert screen.type("sto") == f"s{E}{D}st{E}{D}{D}sto{E}"
    assert screen.type("\x08\x7fp") == f"{D}{D}{D}st{E}{D}{D}s{E}{D}sp{E}"


def test_moving_and_inserting(screen: Screen) -> None:
    screen.type("sp")
    assert screen.type("\x01x\x05y\x02\x15") == (
        f"{D}{D}xsp{E}{D}{D}{C}{C}{D}{D}{D}xspy{E}{D}{D}{D}{D}{E}"
    )


def test_escape_sequences(screen: Screen) -> None:
    screen.type("abc")
    assert screen.type("\x01\x04\x1b[3~\x1b[4~z\x1b[1~\x1bOF\x1bOH") == (
        f"{D}{D}{D}bc{E}{D}{D}c{E}{D}{C}{D}cz{E}{D}{D}{C}{C}{D}{D}"
    )


def test_words_and_the_screen_are_cleared(screen: Screen) -> None:
    screen.type("info stat")
    assert screen.type("\x17\x17") == f"{D * 9}info {E}{D * 5}{E}"
    assert screen.type("\x0c") == "\x1b[2J\x1b[1;1H(qemu) "


def test_a_line_is_run_and_remembered(screen: Screen) -> None:
    assert screen.type("ab\rcd\n").endswith("\n")
    assert screen.lines == ["ab", "cd"]
    screen.type("\x10")
    assert screen.type("\x10") == f"{D}{D}ab{E}"
    assert screen.type("\x10") == ""
    assert screen.type("\x0e") == f"{D}{D}cd{E}"
    assert screen.type("\x0e") == f"{D}{D}{E}"
    screen.type("\x1b[A\x1b[A\n")
    assert screen.line.history == ["cd", "ab"]


def test_one_completion_is_taken_several_are_listed(screen: Screen) -> None:
    assert screen.type("inf\t").endswith(f"info {E}")
    screen.type("\x15")
    assert screen.type("stat\t").endswith(f"\nstats     status    \n(qemu) stat{E}")
    screen.type("\x15")
    assert screen.type("zz\t").endswith(f"zz{E}")


def test_bytes_above_ascii_come_back_unchanged(screen: Screen) -> None:
    assert screen.type("\xc3\xa9\n") == f"\xc3{E}{D}\xc3\xa9{E}\n"
    assert screen.lines == ["\xc3\xa9"]
