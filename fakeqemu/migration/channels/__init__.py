"""Where migration channels lead: addresses, descriptors, TLS credentials."""
