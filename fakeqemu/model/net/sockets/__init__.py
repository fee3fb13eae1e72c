"""Network backends on sockets: socket, stream, dgram .

See net/socket.c, net/stream.c and net/dgram.c.
"""
