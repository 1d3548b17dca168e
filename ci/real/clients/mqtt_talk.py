"""The conversation of lib/libraries/mqtt.mjs by paho-mqtt. Arguments: a JSON object {port, version, transport, path, name, bodies}.

Prints what was heard, by topic, and what came late.
"""

import json
import sys
import threading
import time

import paho.mqtt.client as mqtt

WANTED = json.loads(sys.argv[1])
NAME, BODIES = WANTED["name"], WANTED["bodies"]
WAIT_SECONDS = 10


class Client(mqtt.Client):
    def __init__(self, will=None):
        super().__init__(mqtt.CallbackAPIVersion.VERSION2, protocol=WANTED["version"], transport=WANTED["transport"])
        self.heard, self.done, self.change = [], set(), threading.Condition()
        self.on_message = lambda _c, _u, message: self.note(self.heard, message)
        self.on_subscribe = lambda _c, _u, mid, *_: self.note(self.done, mid)
        self.on_unsubscribe = self.on_subscribe
        self.on_connect = lambda _c, _u, _f, reason, _p: self.note(self.done, "connected" if reason == 0 else str(reason))
        if WANTED["transport"] == "websockets":
            self.ws_set_options(path=WANTED["path"])
        if will:
            self.will_set(will, "lost", qos=1)
        self.connect("127.0.0.1", WANTED["port"])
        self.loop_start()
        self.until(lambda: "connected" in self.done)

    def note(self, where, what):
        with self.change:
            where.add(what) if isinstance(where, set) else where.append(what)
            self.change.notify_all()

    def until(self, condition):
        deadline = time.monotonic() + WAIT_SECONDS
        with self.change:
            while not condition():
                if not self.change.wait(max(0.0, deadline - time.monotonic())):
                    raise AssertionError(f"waited in vain: {self.done} {[it.topic for it in self.heard]}")

    def wait(self, result):
        self.until(lambda: result[1] in self.done)

    def leave(self):
        self.disconnect()
        self.loop_stop()


def main():
    listener = Client()
    listener.wait(listener.subscribe(NAME + "/+", qos=2))
    speaker = Client(will=NAME + "/will")
    for qos in (0, 1, 2):
        for body in BODIES:
            speaker.publish(f"{NAME}/{qos}", body, qos=qos).wait_for_publish(WAIT_SECONDS)
    listener.until(lambda: len(listener.heard) >= 3 * len(BODIES))
    listener.wait(listener.unsubscribe(NAME + "/+"))
    speaker.publish(NAME + "/kept", "kept", qos=1, retain=True).wait_for_publish(WAIT_SECONDS)
    listener.wait(listener.subscribe(NAME + "/will", qos=1))
    speaker.loop_stop()
    speaker.socket().close()
    listener.until(lambda: len(listener.heard) > 3 * len(BODIES))
    late = Client()
    late.wait(late.subscribe(NAME + "/kept", qos=1))
    late.until(lambda: late.heard)
    told = {}
    for message in listener.heard:
        told.setdefault(message.topic, []).append(message.payload.decode())
    told["late"] = [f"{it.topic} {it.payload.decode()} {str(bool(it.retain)).lower()}" for it in late.heard]
    for client in (listener, late):
        client.leave()
    return told


print(json.dumps(main()))
