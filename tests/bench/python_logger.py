"""What people write today with paho-mqtt and psycopg2: python_logger.py each|batch PORT.

each: one INSERT and one COMMIT per message, in on_message. batch: on_message puts the message into a queue, a
thread takes all that waits (and the message has been acknowledged by then, so a crash loses it)."""
import queue
import sys
import threading
import time

import paho.mqtt.client as mqtt
import psycopg2
import psycopg2.extras

INSERT = 'INSERT INTO telemetry.altimeter (time, sensor, altitude_m) VALUES '
METRES = {'feet': 0.3048, 'm': 1.0}
BATCH = 1000


def row(message):
    value, unit = message.payload.decode().split()
    return message.topic.split('/')[2], float(value) * METRES[unit]


def insert_each(connection, take):
    """on_message that stores the message before it returns."""
    cursor = connection.cursor()

    def on_message(_client, _data, message):
        if message.topic != 'bench/finished':
            cursor.execute(INSERT + '(now(), %s, %s)', row(message))
            connection.commit()
        take(message)

    return on_message


def insert_batches(connection, take):
    """on_message that leaves the message to a thread."""
    waiting = queue.Queue()
    cursor = connection.cursor()

    def store():
        while True:
            messages = [waiting.get()]
            while len(messages) < BATCH and not waiting.empty():
                messages.append(waiting.get())
            rows = [row(message) for message in messages if message.topic != 'bench/finished']
            psycopg2.extras.execute_values(cursor, INSERT + '%s', rows, '(now(), %s, %s)', BATCH)
            connection.commit()
            for message in messages:
                take(message)

    threading.Thread(target=store, daemon=True).start()
    return lambda _client, _data, message: waiting.put(message)


def main(how, port):
    subscribed, finished = threading.Event(), threading.Event()
    count = 0

    def take(message):
        nonlocal count
        if message.topic == 'bench/finished':
            finished.set()
        else:
            count += 1

    store = {'each': insert_each, 'batch': insert_batches}[how]
    client = mqtt.Client('bench-python')
    client.on_message = store(psycopg2.connect(''), take)
    client.on_connect = lambda *_: client.subscribe('#', qos=1)
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect('127.0.0.1', int(port))
    client.loop_start()
    subscribed.wait()
    print('subscribed', flush=True)
    finished.wait()
    print(f'end={time.monotonic():.6f} messages={count} cpu={time.process_time():.6f}', flush=True)
    client.disconnect()
    client.loop_stop()


main(*sys.argv[1:])
