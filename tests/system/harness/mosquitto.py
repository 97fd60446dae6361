"""Debian's mosquitto, with the options that a test asks for."""
import os
import shutil
import signal
import socket
import subprocess
import tempfile

from .ports import free_port
from .processes import Log, Process
from .wait import wait_until


class Mosquitto:
    """mosquitto on 127.0.0.1:.port; options are lines of its configuration, None leaves a default out.

    users: a dict of names and passwords, after which anonymous clients are refused."""

    def __init__(self, persistence=False, users=None, **options):
        self.port = free_port()
        self.log = Log()
        self.directory = tempfile.mkdtemp(prefix="slm", dir="/tmp")
        self._process = None
        self._conf = os.path.join(self.directory, "mosquitto.conf")
        lines = {
            "listener": f"{self.port} 127.0.0.1",
            "user": "root" if os.geteuid() == 0 else None,
            "allow_anonymous": "false" if users else "true",
            "password_file": self._password_file(users) if users else None,
            "persistence": "true" if persistence else "false",
            "persistence_location": f"{self.directory}/" if persistence else None,
            # By default it drops what is over 1,000 messages for a client that is away.
            "max_queued_messages": "0",
            "max_queued_bytes": "0",
            "set_tcp_nodelay": "true",
            "log_dest": "stderr",
        }
        lines.update({name: str(value) for name, value in options.items()})
        with open(self._conf, "w") as conf:
            conf.writelines(f"{name} {value}\n" for name, value in lines.items() if value is not None)
            conf.writelines(f"log_type {kind}\n" for kind in
                            ("error", "warning", "notice", "information", "subscribe", "unsubscribe"))

    def _password_file(self, users):
        path = os.path.join(self.directory, "passwords")
        with open(path, "w") as passwords:
            passwords.writelines(f"{name}:{password}\n" for name, password in users.items())
        subprocess.run(["mosquitto_passwd", "-U", path], check=True)
        return path

    @property
    def uri(self):
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def pid(self):
        return self._process.pid

    def start(self):
        self._process = Process("mosquitto", ["mosquitto", "-c", self._conf], log=self.log)
        wait_until(self._answers, "mosquitto to take connections")

    def _answers(self):
        assert self._process.running, f"mosquitto did not start:\n{self.log.text()}"
        try:
            socket.create_connection(("127.0.0.1", self.port), 5).close()
            return True
        except OSError:
            return False

    def stop(self):
        """Ends it as systemd does: with persistence, it saves what it has."""
        self._process.signal(signal.SIGTERM)
        self._process.wait()

    def kill9(self):
        self._process.kill9()

    def restart(self):
        self.stop()
        self.start()

    def remove(self):
        if self._process is not None and self._process.running:
            self.kill9()
        shutil.rmtree(self.directory, ignore_errors=True)

    def connects(self, client_id):
        """How often a client with this id has connected."""
        return len(self.log.find(rf"New client connected from \S+ as {client_id} "))

    def subscriptions(self, client_id, since=0):
        """The filters that the client has subscribed to, in order, as the log has them."""
        return [line.split()[-1] for line in self.log.find(rf": {client_id} \d \S+$", since)]
