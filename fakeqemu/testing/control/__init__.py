"""The control socket: what another process may ask of a machine under test."""
