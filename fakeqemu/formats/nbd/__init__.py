"""The NBD protocol's server side as bytes. See nbd/server.c and nbd/common.c."""
