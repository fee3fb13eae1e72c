"""Network backends on sockets: socket, stream, dgram (net/socket.c, stream.c, dgram.c)."""
