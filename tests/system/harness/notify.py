"""A notify socket of the test's own [sd_notify(3)]."""
import os
import shutil
import socket
import tempfile
import threading
import time

from .wait import wait_until


class NotifySocket:
    """Receives datagrams at .path; .messages are (time, {name: value}) in order."""

    def __init__(self):
        self._directory = tempfile.mkdtemp(prefix="sln", dir="/tmp")
        os.chmod(self._directory, 0o755)
        self.path = os.path.join(self._directory, "notify")
        self.messages = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        os.chmod(self.path, 0o777)  # the daemon may be another user
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def _receive(self):
        while text := self._socket.recv(65536).decode():
            fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
            self.messages.append((time.monotonic(), fields))

    def values(self, name):
        """All values of a variable so far, in order."""
        return [fields[name] for _, fields in list(self.messages) if name in fields]

    def wait_for(self, name, predicate=lambda value: True, timeout=None):
        """The first value of the variable that satisfies the predicate."""
        return wait_until(lambda: [value for value in self.values(name) if predicate(value)],
                          f"{name}= on the notify socket, which has {self.messages[-5:]}", timeout)[0]

    def close(self):
        self._socket.shutdown(socket.SHUT_RD)  # wakes the thread up
        self._thread.join()
        self._socket.close()
        shutil.rmtree(self._directory)
