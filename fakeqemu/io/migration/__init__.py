"""Migration channels and CPR state on real sockets and files."""
