"""A TCP proxy that can cut a connection, or hold it up, at a point that a test chooses."""
import dataclasses
import re
import socket
import struct
import threading

from .ports import free_port

TO_SERVER, TO_CLIENT = "to server", "to client"

# A request to commit, as text or as the name of a prepared statement; and PostgreSQL's confirmation of it.
COMMIT_REQUEST = re.compile(rb"\bcommit\b", re.I)
COMMIT_DONE = re.compile(rb"C\x00\x00\x00\x0bCOMMIT\x00")

_LONGEST_PATTERN = 32


@dataclasses.dataclass
class _Rule:
    pattern: re.Pattern
    direction: str
    action: str
    left: int


class _Link:
    """One proxied connection, with a thread for each direction."""

    def __init__(self, proxy, client, server):
        self.proxy = proxy
        self.sockets = {TO_SERVER: client, TO_CLIENT: server}  # what is read from
        self.open = True
        self.abandoned = False
        self.held = set()
        self._lock = threading.Lock()
        for direction in (TO_SERVER, TO_CLIENT):
            threading.Thread(target=self._pump, args=[direction], daemon=True).start()

    def _pump(self, direction):
        other = TO_CLIENT if direction == TO_SERVER else TO_SERVER
        tail = b""
        try:
            while data := self.sockets[direction].recv(65536):
                rule, data, behind = self.proxy.judge(direction, tail, data)
                if rule is None:
                    self._forward(direction, other, data)
                    tail = (tail + data)[-_LONGEST_PATTERN:]
                elif not self._act(rule, direction, other, data, behind):
                    return
                else:
                    tail = b""
        except OSError:
            pass
        self.cut(reset=False)

    def _forward(self, direction, other, data):
        with self.proxy.wakeup:
            self.proxy.wakeup.wait_for(lambda: not self.open or direction not in self.held | self.proxy.held)
        if not self.open:
            raise ConnectionAbortedError
        if self.abandoned and direction == TO_CLIENT:
            return
        try:
            self.sockets[other].sendall(data)
        except OSError:
            # What is held for the server stays on its way though the client has died.
            if direction == TO_SERVER or TO_SERVER not in self.held:
                raise
            self.abandoned = True

    def _act(self, rule, direction, other, before, behind):
        """before: the bytes up to the pattern; behind: from it on. False: the link is done with."""
        self._forward(direction, other, before)
        if rule.action == "forward and cut":
            self.held.add(other)
            self._forward(direction, other, behind)
            self.cut()
        elif rule.action == "cut":
            self.cut()
        elif rule.action == "abandon":
            self.abandon()
        elif rule.action == "hold":
            self.held.add(direction)
            self.proxy.tripped()
            self._forward(direction, other, behind)
            return True
        self.proxy.tripped()
        return False

    def cut(self, reset=True):
        """Closes both sides, with RST or, if reset is false, as it came."""
        with self._lock:
            if not self.open:
                return
            self.open = False
        with self.proxy.wakeup:
            self.proxy.wakeup.notify_all()
        for sock in self.sockets.values():
            _close(sock, reset)

    def abandon(self):
        """Cuts the client off; the server is not told, and what it says goes nowhere."""
        self.abandoned = True
        _close(self.sockets[TO_SERVER], reset=True)

    def release(self):
        with self.proxy.wakeup:
            self.held.clear()
            self.proxy.wakeup.notify_all()


def _close(sock, reset):
    try:
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # A thread that waits in recv keeps the socket alive: shutting down one's own reading side wakes it up
            # and sends nothing.
            sock.shutdown(socket.SHUT_RD)
        else:
            sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    sock.close()


class Proxy:
    """Listens on 127.0.0.1:.port and passes on to 127.0.0.1:server_port."""

    def __init__(self, server_port):
        self.port = free_port()
        self.wakeup = threading.Condition()
        self.held = set()
        self.links = []
        self.trips = 0  # how often a rule has acted
        self.refusing = False
        self._server_port = server_port
        self._rules = []
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refusing:
                _close(client, reset=True)
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._server_port))
            except OSError:
                _close(client, reset=True)
                continue
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.links.append(_Link(self, client, server))

    def when(self, pattern, direction, action, times=1):
        """The next times that the pattern (a compiled one, of bytes) goes by in this direction:

        cut: neither it nor anything behind it gets through, and both sides see RST
        forward and cut: it gets through, then both sides see RST before an answer gets back
        abandon: it does not get through, the client sees RST, and the server sees nothing at all
        hold: it waits, with all behind it, until release()"""
        with self.wakeup:
            self._rules.append(_Rule(pattern, direction, action, times))

    def judge(self, direction, tail, data):
        """(rule, data before it, data from it on) where a rule acts now, else (None, data, nothing)."""
        with self.wakeup:
            for rule in self._rules:
                if rule.direction != direction:
                    continue
                for found in rule.pattern.finditer(tail + data):
                    if found.end() <= len(tail):
                        continue  # it has gone by already
                    rule.left -= 1
                    if not rule.left:
                        self._rules.remove(rule)
                    start = max(found.start() - len(tail), 0)
                    return rule, data[:start], data[start:]
        return None, data, b""

    def tripped(self):
        with self.wakeup:
            self.trips += 1

    @property
    def uri(self):
        """Where the server is a broker."""
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def open_links(self):
        return [link for link in self.links if link.open]

    def cut(self):
        """Cuts all connections with RST."""
        for link in self.links:
            link.cut()

    def hold(self, direction):
        """Lets nothing through in this direction, on any connection, until release()."""
        with self.wakeup:
            self.held.add(direction)

    def release(self):
        """Passes everything on again; rules that have not acted are forgotten."""
        with self.wakeup:
            self.held.clear()
            self._rules.clear()
        for link in self.links:
            link.release()

    def close(self):
        _close(self._listener, reset=False)
        self.release()
        self.cut()
