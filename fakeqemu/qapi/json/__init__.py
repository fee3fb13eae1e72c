"""QEMU's JSON: lexer, streamer, parser and writer (qobject/json-*.c)."""
