"""A client on Python's paho-mqtt, for test_broker_interop.py; arguments and output as of paho.c."""
import os
import sys
import urllib.parse

import paho.mqtt.client as mqtt


def client_for(uri, version, ca):
    place = urllib.parse.urlsplit(uri)
    transport = "websockets" if place.scheme in ("ws", "wss") else "tcp"
    client = mqtt.Client(f"paho-python-{os.getpid()}", protocol=mqtt.MQTTv5 if version == "5" else mqtt.MQTTv311,
                         transport=transport)
    if ca != "-":
        client.tls_set(ca)
    return client, place


def message_line(_client, _userdata, message):
    print(message.topic, message.qos, int(message.retain), message.payload.decode(), flush=True)


def subscribe(client, place, topic_filter, qos, will_topic, will_payload):
    client.will_set(will_topic, will_payload, qos=1)
    client.on_connect = lambda *_: client.subscribe(topic_filter, int(qos))
    client.on_subscribe = lambda *_: print("ready", flush=True)
    client.on_message = message_line
    client.connect(place.hostname, place.port)
    client.loop_forever()


def publish(client, place, messages):
    client.connect(place.hostname, place.port)
    client.loop_start()
    for topic, payload, qos, retain in zip(*[iter(messages)] * 4):
        sent = client.publish(topic, payload, int(qos), retain == "1")
        sent.wait_for_publish(30)
        assert sent.is_published()
    client.disconnect()
    client.loop_stop()


if __name__ == "__main__":
    what, *how = sys.argv[1:5]
    work = {"sub": lambda *rest: subscribe(*client_for(*how), *rest),
            "pub": lambda *rest: publish(*client_for(*how), rest)}
    work[what](*sys.argv[5:])
