"""User-mode networks: options, forwarded ports (net/slirp.c)."""
