"""A session of paho-mqtt that lasts. Arguments: a JSON object {port, version, name, bodies}.

Prints, as a list: whether there was a session at first, whether there was one later, and what was queued for it meanwhile.
"""

import json
import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

WANTED = json.loads(sys.argv[1])
TOPIC, BODIES, IS_5 = WANTED["name"] + "/queue", WANTED["bodies"], WANTED["version"] == 5
WAIT_SECONDS = 10


class Client(mqtt.Client):
    def __init__(self, lasts):
        more = {"client_id": WANTED["name"]} if lasts else {}
        if not IS_5:
            more["clean_session"] = not lasts
        super().__init__(mqtt.CallbackAPIVersion.VERSION2, protocol=WANTED["version"], **more)
        self.heard, self.is_in, self.is_present = [], threading.Event(), None
        self.is_subscribed, self.has_all = threading.Event(), threading.Event()
        self.on_connect, self.on_message = self.let_in, self.hear
        self.on_subscribe = lambda *_: self.is_subscribed.set()
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 60 if lasts else 0
        more = {"clean_start": not lasts, "properties": properties} if IS_5 else {}
        self.connect("127.0.0.1", WANTED["port"], **more)
        self.loop_start()
        self.waits(self.is_in, "CONNACK")

    def let_in(self, _client, _user, flags, reason, _properties):
        assert reason == 0, reason
        self.is_present = flags.session_present
        self.is_in.set()

    def hear(self, _client, _user, message):
        self.heard.append(message.payload.decode())
        if len(self.heard) >= len(BODIES):
            self.has_all.set()

    def waits(self, event, what):
        if not event.wait(WAIT_SECONDS):
            raise AssertionError(f"waited in vain for {what}: {self.heard}")

    def leave(self):
        self.disconnect()
        self.loop_stop()


def main():
    first = Client(True)
    first.subscribe(TOPIC, qos=1)
    first.waits(first.is_subscribed, "SUBACK")
    first.leave()
    speaker = Client(False)
    for body in BODIES:
        speaker.publish(TOPIC, body, qos=1).wait_for_publish(WAIT_SECONDS)
    speaker.leave()
    again = Client(True)
    again.waits(again.has_all, "what was queued")
    again.leave()
    print(json.dumps([first.is_present, again.is_present, *again.heard]))


main()
