"""Words of a line as a shell would split them, for parameters that are argument lists.

QEMU calls GLib's g_shell_parse_argv() here, whose error texts differ from Python's. See
migration/migration-hmp-cmds.c: hmp_migrate_set_parameter() (since 11.1).
"""

from __future__ import annotations

import shlex

from fakeqemu.qapi.errors import QapiError


def split_words(text: str) -> list[str]:
    """The words of `text`. Raises QapiError with GLib's text."""
    if not text.strip():
        raise QapiError("Text was empty (or contained only whitespace)")
    try:
        return shlex.split(text)
    except ValueError as error:
        if "escaped" in str(error):
            what = "Text ended just after a “\\” character."
        else:
            quote = _open_quote(text)
            what = f"Text ended before matching quote was found for {quote}."
        raise QapiError(f"{what} (The text was “{text}”)") from None


def _open_quote(text: str) -> str:
    quote = ""
    escaped = False
    for character in text:
        if escaped:
            escaped = False
        elif character == "\\" and quote != "'":
            escaped = True
        elif quote:
            if character == quote:
                quote = ""
        elif character in "'\"":
            quote = character
    return quote
