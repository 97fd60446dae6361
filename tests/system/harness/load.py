"""Publishers that keep an account of what the broker has taken."""
import collections
import threading

import paho.mqtt.client as mqtt

from .wait import wait_until


class Publisher:
    """Publishes payload(n) for n = first, first + 1, ... to the topic by QoS 1, in a thread.

    rate: per second, None as fast as goes. .acknowledged: the n's that the broker has acknowledged."""

    def __init__(self, port, topic, payload, rate=None, first=0, username=None, password=None):
        self.acknowledged = set()
        self._topic, self._payload, self._next = topic, payload, first
        self._numbers = {}                  # n by message id of the client, until it is acknowledged
        self._arrived = collections.deque() # message ids
        self._lock = threading.Lock()
        self._pause = 1 / rate if rate else 0
        self._stopping = threading.Event()
        self._client = mqtt.Client(protocol=mqtt.MQTTv311)
        if username:
            self._client.username_pw_set(username, password)
        self._client.max_inflight_messages_set(100)
        self._client.max_queued_messages_set(0)
        self._client.reconnect_delay_set(1, 1)
        # No lock is taken in here: paho holds one of its own, which publish() needs too.
        self._client.on_publish = lambda _client, _userdata, message_id: self._arrived.append(message_id)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._thread = threading.Thread(target=self._publish_on, daemon=True)

    def _publish(self, n):
        with self._lock:
            self._numbers[self._client.publish(self._topic, self._payload(n), qos=1).mid] = n
        self._outstanding()

    def _outstanding(self):
        """Books what has been acknowledged; returns how many are not."""
        with self._lock:
            while self._arrived:
                self.acknowledged.add(self._numbers.pop(self._arrived.popleft()))
            return len(self._numbers)

    def _publish_on(self):
        while not self._stopping.wait(self._pause):
            if self._outstanding() < 1000:
                self._publish(self._next)
                self._next += 1

    def start(self):
        self._thread.start()
        return self

    def publish_all(self, count):
        """Publishes so many, in this thread, and waits until all are acknowledged."""
        for n in range(self._next, self._next + count):
            self._publish(n)
        self._next += count
        self.settle()

    def settle(self, timeout=None):
        wait_until(lambda: not self._outstanding(), "the broker to acknowledge what was published", timeout)

    def stop(self):
        """Publishes no more, waits for what is on its way, and returns the set that the broker has acknowledged."""
        if self._thread.is_alive():
            self._stopping.set()
            self._thread.join()
        self.settle()
        self.close()
        return self.acknowledged

    def close(self):
        self._stopping.set()
        self._client.disconnect()
        self._client.loop_stop()


def mqtt_publish(port, *messages, protocol=mqtt.MQTTv311):
    """Publishes (topic, payload[, retain]) each by QoS 1 and waits for the acknowledgements."""
    client = mqtt.Client(protocol=protocol)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        for topic, payload, *retain in messages:
            client.publish(topic, payload, qos=1, retain=bool(retain and retain[0])).wait_for_publish(30)
    finally:
        client.disconnect()
        client.loop_stop()
