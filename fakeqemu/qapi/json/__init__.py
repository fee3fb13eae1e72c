"""QEMU's JSON: lexer, streamer, parser and writer. See qobject/json-lexer.c and its neighbours."""
