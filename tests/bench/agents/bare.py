"""`python bare.py PORT PEM ROOTS TOPIC FILE`: a row, a publish, the row deleted. Nothing else.

The least that a sensor in Python can do with a disk, MQTT and mutual TLS; nothing of ours.
"""

import sqlite3
import ssl
import sys
import time

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion


def main(port: str, pem: str, roots: str, topic: str, file: str) -> None:
    """Publish a reading each second until killed."""
    rows = sqlite3.connect(file, isolation_level=None)
    rows.execute("CREATE TABLE IF NOT EXISTS readings (seq INTEGER PRIMARY KEY, body TEXT)")
    context = ssl.create_default_context(cafile=roots)
    context.check_hostname = False
    context.load_cert_chain(pem)
    name = topic.rpartition("/")[2]
    client = Client(CallbackAPIVersion.VERSION2, name, protocol=MQTTProtocolVersion.MQTTv5)
    client.tls_set_context(context)
    client.connect("127.0.0.1", int(port))
    client.loop_start()
    for seq in range(1_000_000):
        pack = f'[{{"bn":"urn:{name}:","n":"temperature","u":"Cel","v":{20 + seq % 10},"s":{seq}}}]'
        rows.execute("INSERT INTO readings VALUES (?, ?)", (seq, pack))
        client.publish(topic, pack, qos=1).wait_for_publish(30)
        rows.execute("DELETE FROM readings WHERE seq = ?", (seq,))
        time.sleep(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
