"""User-mode networks: options, forwarded ports. See net/slirp.c."""
