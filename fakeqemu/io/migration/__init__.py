"""Migration channels and CPR state on real sockets and files. See migration/socket.c."""
