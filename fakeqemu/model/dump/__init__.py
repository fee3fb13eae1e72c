"""Guest dumps: dump-guest-memory as ELF core or kdump file. See dump/dump.c."""
