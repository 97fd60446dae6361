"""A TCP proxy that breaks connections, wherever and whenever a fault wants it to."""
import asyncio
import contextlib
import dataclasses
import socket
import struct

from harness.ports import free_port
from harness.wait import wait_until

TO_SERVER, TO_CLIENT = "to server", "to client"
_OTHER = {TO_SERVER: TO_CLIENT, TO_CLIENT: TO_SERVER}
_RECEIVE = 65536
_PIECE = 512  # of what is throttled


@dataclasses.dataclass
class _Rule:
    """The next packets of a kind that pass in a direction, or the next bytes."""
    direction: str
    kind: str
    skip: int   # so many packets (kind None: bytes) pass unharmed
    place: str  # "before" it, "inside" or "after"
    action: str


class _Ended(Exception):
    """A rule has ended the connection that it acted on."""


def _reset(sock):
    if sock.fileno() == -1:  # closed already: its side has vanished
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Link:
    """One proxied connection: a task for each direction."""

    def __init__(self, proxy, client, server):
        self.proxy = proxy
        self.sockets = {TO_SERVER: client, TO_CLIENT: server}  # what is read from
        self.open = True
        self.gone = False  # one side has vanished
        self.held = set()
        self.moved = asyncio.Event()
        counting = proxy.parsers()
        self._counting = dict(zip((TO_SERVER, TO_CLIENT), counting))                # what has passed
        self._finding = dict(zip((TO_SERVER, TO_CLIENT), type(counting[0]).pair()))  # what is about to
        self._tasks = []

    def start(self):
        self._tasks = [self.proxy.loop.create_task(self._pump(direction)) for direction in (TO_SERVER, TO_CLIENT)]

    async def _pump(self, direction):
        try:
            while data := await self.proxy.loop.sock_recv(self.sockets[direction], _RECEIVE):
                await self._take(direction, data)
                if self.gone:  # this was the last of a sender that is no more
                    break
            self.cut(reset=False)
        except _Ended:
            pass
        except OSError:
            self.cut()

    async def _take(self, direction, data):
        at = 0
        for cut, rule in self._ruled(direction, data):
            cut = max(cut, at)
            await self._forward(direction, data[at:cut])
            at = cut
            self._act(rule, direction)
        await self._forward(direction, data[at:])

    def _ruled(self, direction, data):
        """(where, rule) for each rule that acts on this data."""
        rule, at = self.proxy.byte_rule(direction, len(data))
        yield from self._ruled_packets(direction, data[:at], 0)
        if rule:
            yield at, rule
        yield from self._ruled_packets(direction, data[at:], at)

    def _ruled_packets(self, direction, data, start):
        for end, kind, length in self._finding[direction].feed(data):
            rule, end = self.proxy.packet_rule(direction, kind), end + start
            if rule:
                yield {"before": end - length, "inside": end - max(length // 2, 1), "after": end}[rule.place], rule

    def _act(self, rule, direction):
        self.proxy.trips += 1
        if rule.action in ("hold", "late"):
            self.held.add(direction)
            if rule.action == "late":
                self._lose_sender(direction)
            return
        if rule.action == "vanish":
            self.vanish(direction)
        else:
            self.cut(reset=rule.action == "cut")
        raise _Ended

    async def _forward(self, direction, data):
        proxy = self.proxy
        if proxy.delay:
            await self._sleep(proxy.delay)
        while data:
            piece, data = (data[:_PIECE], data[_PIECE:]) if proxy.rate else (data, b"")
            if proxy.rate:
                await self._sleep(len(piece) / proxy.rate)
            while direction in self.held or direction in proxy.held:
                self.moved.clear()
                await self.moved.wait()
            await self._send(direction, piece)

    async def _sleep(self, seconds):
        """Until then, or until all is to pass again."""
        self.moved.clear()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.moved.wait(), seconds)

    async def _send(self, direction, data):
        """What the kernel takes has passed. It is counted at once: nobody can have answered it yet."""
        sock = self.sockets[_OTHER[direction]]
        while data:
            try:
                sent = sock.send(data)
            except BlockingIOError:
                await self._writable(sock)
                continue
            for _ in self._counting[direction].feed(data[:sent]):
                pass
            data = data[sent:]

    async def _writable(self, sock):
        ready = asyncio.Event()
        self.proxy.loop.add_writer(sock, ready.set)
        try:
            await ready.wait()
        finally:
            self.proxy.loop.remove_writer(sock)

    def _stop(self):
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()

    def cut(self, reset=True):
        """Closes both sides, with RST or in order."""
        if self.open:
            self.open = False
            self.proxy.links.discard(self)
            self._stop()
            # Not before the tasks have let go of the sockets.
            for sock in self.sockets.values():
                self.proxy.loop.call_soon(_reset if reset else socket.socket.close, sock)

    def vanish(self, direction):
        """What this direction leads to finds its connection reset; the other side hears no more, and is not told."""
        if self.open and not self.gone:
            self.gone = True
            self._stop()
            self.proxy.loop.call_soon(self._swallow, direction)

    def _lose_sender(self, direction):
        """It sees RST; what it has sent is still on its way."""
        self.gone = True
        self._stop()
        self.proxy.loop.call_soon(_reset, self.sockets[direction])

    def _swallow(self, direction):
        _reset(self.sockets[_OTHER[direction]])
        self._tasks = [self.proxy.loop.create_task(self._read_on(self.sockets[direction]))]

    async def _read_on(self, sock):
        try:
            while await self.proxy.loop.sock_recv(sock, _RECEIVE):
                pass
        except OSError:
            pass
        self.cut()


class Proxy:
    """Listens on 127.0.0.1:.port and passes on to 127.0.0.1:server_port. To be called from the main thread.

    parsers: makes what finds the packets in the bytes to the server and to the client, see packets.py."""

    def __init__(self, background, server_port, parsers):
        self.background, self.loop = background, background.loop
        self.port = free_port()
        self.server_port = server_port
        self.links = set()
        self.held = set()
        self.delay = 0     # seconds for each piece of data
        self.rate = None   # bytes a second
        self.refusing = False
        self.trips = 0     # how often a rule has acted
        self.rules = []
        self.parsers = parsers
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=100)
        self._listener.setblocking(False)
        background.call(lambda: setattr(self, "_accepting", self.loop.create_task(self._accept())))

    @property
    def uri(self):
        """Where the server is a broker."""
        return f"mqtt://127.0.0.1:{self.port}"

    async def _accept(self):
        while True:
            client, _ = await self.loop.sock_accept(self._listener)
            self.loop.create_task(self._connect(client))

    async def _connect(self, client):
        server = socket.socket()
        server.setblocking(False)
        try:
            if self.refusing:
                raise ConnectionRefusedError
            await self.loop.sock_connect(server, ("127.0.0.1", self.server_port))
        except OSError:
            server.close()
            _reset(client)
            return
        for sock in (client, server):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = Link(self, client, server)
        self.links.add(link)
        link.start()

    def packet_rule(self, direction, kind):
        """What is to be done about a packet that passes, or None."""
        for rule in self.rules:
            if rule.direction == direction and rule.kind == kind:
                if not rule.skip:
                    self.rules.remove(rule)
                    return rule
                rule.skip -= 1
        return None

    def byte_rule(self, direction, length):
        """(what, at which offset) is to be done within the next so many bytes, or (None, 0)."""
        for rule in self.rules:
            if rule.direction == direction and rule.kind is None:
                if rule.skip < length:
                    self.rules.remove(rule)
                    return rule, rule.skip
                rule.skip -= length
        return None, 0

    # What a fault does, from the main thread.

    def when(self, kind, direction, action="cut", *, place="before", skip=0):
        """The next packet of this kind ("PUBACK", "COMMIT" ...; None: byte) but for the first skip ones:

        place: "before" it has passed, in the middle ("inside"), or "after" it and before any answer
        cut: both sides see RST; close: the connection ends in order
        hold: from there on nothing passes in this direction until mend()
        late: the same, and its sender sees RST at once
        vanish: its receiver sees RST, and the sender never hears again, nor is told"""
        self.background.call(self.rules.append, _Rule(direction, kind, skip, place, action))

    def wait_tripped(self, count=1, timeout=None):
        """Until rules have acted so often, since the proxy was made."""
        wait_until(lambda: self.trips >= count, "the proxy's rule to act", timeout)

    def cut(self, reset=True):
        """All connections."""
        self.background.call(lambda: [link.cut(reset) for link in list(self.links)])

    def vanish(self, direction):
        """All connections: what this direction leads to sees RST, the other side hears no more and is not told."""
        self.background.call(lambda: [link.vanish(direction) for link in list(self.links)])

    def hold(self, *directions):
        """Lets nothing through in these directions until mend()."""
        self.background.call(self.held.update, directions or (TO_SERVER, TO_CLIENT))

    def mend(self):
        """Passes everything on again, promptly; connections whose other end has vanished are cut."""
        self.background.call(self._mend)

    def _mend(self):
        self.held.clear()
        self.rules.clear()
        self.delay, self.rate, self.refusing = 0, None, False
        for link in list(self.links):
            late = bool(link.held)
            link.held.clear()
            link.moved.set()
            if link.gone and not late:
                link.cut()

    def close(self):
        async def end():
            self._accepting.cancel()
            await asyncio.sleep(0)
            self._listener.close()
        self.mend()
        self.cut()
        self.background.wait(end())
