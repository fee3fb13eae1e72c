"""Migration addresses, passed descriptors, TLS credentials. See migration/channel.c."""
