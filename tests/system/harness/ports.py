"""TCP ports for servers that must come back on the same port."""
import os
import random
import socket

# Below the range from which the kernel takes ports for clients: one of those could take the port of a server
# while it is down, and a client that tries to connect to such a port can even connect to itself.
_FIRST, _LAST = 12000, 32000
_taken = set()


def free_port():
    """A port of 127.0.0.1 that nobody listens on; each is given out once."""
    chance = random.Random(os.urandom(8))
    while True:
        port = chance.randrange(_FIRST, _LAST)
        if port in _taken:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _taken.add(port)
        return port
