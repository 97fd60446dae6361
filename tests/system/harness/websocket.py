"""A WebSocket as a client opens it [RFC 6455], which looks like the socket beneath a Connection.

What is written goes out in binary frames; a test may also send any frame, however wrong."""
import base64
import hashlib
import os
import socket
import struct

_MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


class Refused(Exception):
    """The server has answered something else than 101; .status is its status line."""

    def __init__(self, status):
        super().__init__(status)
        self.status = status


def frame(opcode, payload, final=True, masked=True, reserved=0):
    """One frame from a client."""
    head = bytes([final << 7 | reserved << 4 | opcode])
    length = len(payload)
    if length < 126:
        head += bytes([masked << 7 | length])
    elif length < 65536:
        head += bytes([masked << 7 | 126]) + struct.pack(">H", length)
    else:
        head += bytes([masked << 7 | 127]) + struct.pack(">Q", length)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    repeated = mask * (length // 4 + 1)
    return head + mask + (int.from_bytes(payload, "big") ^ int.from_bytes(repeated[:length], "big")).to_bytes(
        length, "big")


class WebSocket:
    """.control are the frames other than binary ones, as (opcode, payload); .frame_size: of what is written, None for
    a frame per write."""

    def __init__(self, sock, protocols="mqtt", path="/mqtt", headers=()):
        self._socket = sock
        self._received = bytearray()
        self.control = []
        self.frame_size = None
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade",
                 f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", *headers]
        if protocols is not None:
            lines.append(f"Sec-WebSocket-Protocol: {protocols}")
        sock.sendall("\r\n".join([*lines, "", ""]).encode())
        self.answer = self._answer()
        accept = base64.b64encode(hashlib.sha1((key + _MAGIC).encode()).digest()).decode()
        assert self.answer["sec-websocket-accept"] == accept
        assert self.answer["upgrade"].lower() == "websocket"

    def _answer(self):
        while b"\r\n\r\n" not in self._received:
            data = self._socket.recv(4096)
            if not data:
                raise Refused(bytes(self._received.split(b"\r\n")[0]).decode() or "closed")
            self._received += data
        head, _, rest = bytes(self._received).partition(b"\r\n\r\n")
        self._received = bytearray(rest)
        status, *lines = head.decode().split("\r\n")
        if status.split()[1] != "101":
            raise Refused(status)
        return {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}

    def send_frame(self, *arguments, **how):
        self._socket.sendall(frame(*arguments, **how))

    def send_raw(self, data):
        self._socket.sendall(data)

    def sendall(self, data):
        size = self.frame_size or max(len(data), 1)
        self._socket.sendall(b"".join(frame(BINARY, data[at:at + size]) for at in range(0, len(data), size)))

    def recv(self, _size):
        """The payload of the next binary frame; nothing at the end."""
        while True:
            found = self._next()
            if found is None:
                data = self._socket.recv(65536)
                if not data:
                    return b""
                self._received += data
            elif found[0] in (BINARY, CONTINUATION):
                if found[1]:
                    return found[1]
            else:
                self.control.append(found)

    def _next(self):
        """(opcode, payload) of the next frame, or None while it is not whole."""
        data = self._received
        if len(data) < 2:
            return None
        assert not data[1] & 128, "a server does not mask [RFC 6455, 5.1]"
        at, length = 2, data[1] & 127
        if length > 125:
            size = 2 if length == 126 else 8
            at += size
            if len(data) < at:
                return None
            length = int.from_bytes(data[2:at], "big")
        if len(data) < at + length:
            return None
        opcode, payload = data[0] & 15, bytes(data[at:at + length])
        del data[:at + length]
        return opcode, payload

    # As of a socket.

    def settimeout(self, seconds):
        self._socket.settimeout(seconds)

    def setsockopt(self, *arguments):
        self._socket.setsockopt(*arguments)

    def fileno(self):
        return self._socket.fileno()

    def close(self):
        self._socket.close()


def dial(port, **how):
    """An open WebSocket to 127.0.0.1."""
    sock = socket.create_connection(("127.0.0.1", port), 30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        return WebSocket(sock, **how)
    except BaseException:
        sock.close()
        raise
