"""The conversation of lib/libraries/stomp.mjs by stomp.py. Arguments: a JSON object {port, version, name, bodies, odd}.

Prints what was heard, by destination. Version 1.0 knows no escapes and no client-individual.
"""

import json
import sys
import threading
import time

import stomp

WANTED = json.loads(sys.argv[1])
TOPIC, QUEUE = "/topic/" + WANTED["name"], "/queue/" + WANTED["name"]
IS_OLD = WANTED["version"] == "1.0"
CLASSES = {"1.0": stomp.Connection10, "1.1": stomp.Connection11, "1.2": stomp.Connection12}


class Heard(stomp.ConnectionListener):
    def __init__(self, connection):
        self.connection, self.heard, self.receipts, self.errors = connection, {TOPIC: [], QUEUE: []}, set(), []
        self.change = threading.Condition()

    def on_message(self, frame):
        if frame.headers["destination"] == QUEUE:
            self.acknowledge(frame.headers)
        with self.change:
            self.heard[frame.headers["destination"]].append(frame.body + " " + frame.headers["x-name"])
            self.change.notify_all()

    def acknowledge(self, headers):
        if WANTED["version"] == "1.2":
            self.connection.ack(headers["ack"])
        elif WANTED["version"] == "1.1":
            self.connection.ack(headers["message-id"], headers["subscription"])
        else:
            self.connection.ack(headers["message-id"])

    def on_receipt(self, frame):
        with self.change:
            self.receipts.add(frame.headers["receipt-id"])
            self.change.notify_all()

    def on_error(self, frame):
        self.errors.append(frame.headers.get("message", "") + frame.body)

    def until(self, condition):
        deadline = time.monotonic() + 10
        with self.change:
            while not condition():
                if self.errors or not self.change.wait(max(0, deadline - time.monotonic())):
                    raise AssertionError(f"not heard; {self.errors} {self.heard}")


class Talk:
    """Says one thing after the other, each with a receipt that is waited for."""

    def __init__(self):
        more = {} if IS_OLD else {"vhost": "/", "heartbeats": (0, 0)}
        self.connection = CLASSES[WANTED["version"]]([("127.0.0.1", WANTED["port"])], **more)
        self.told, self.count = Heard(self.connection), 0
        self.connection.set_listener("", self.told)
        self.connection.connect("guest", "guest", wait=True)

    def confirmed(self, say, headers, **words):
        self.count += 1
        name = f"r{self.count}"
        say(headers={**headers, "receipt": name}, **words)
        self.told.until(lambda: name in self.told.receipts)

    def send(self, to, body):
        self.confirmed(self.connection.send, {"x-name": WANTED["odd"]}, destination=to, body=body)

    def transaction(self, name, end):
        self.connection.begin(transaction=name)
        for n in (1, 2):
            self.connection.send(TOPIC, f"{name} {n}", headers={"x-name": WANTED["odd"], "transaction": name})
        end(name)


def main():
    talk = Talk()
    connection, told, bodies = talk.connection, talk.told, WANTED["bodies"]
    talk.confirmed(connection.subscribe, {}, destination=TOPIC, id="t", ack="auto")
    talk.confirmed(connection.subscribe, {}, destination=QUEUE, id="q", ack="client" if IS_OLD else "client-individual")
    for to in (TOPIC, QUEUE):
        for body in bodies:
            talk.send(to, body)
    talk.transaction("lost", connection.abort)
    talk.transaction("kept", connection.commit)
    told.until(lambda: len(told.heard[TOPIC]) >= len(bodies) + 2)
    talk.confirmed(connection.unsubscribe, {}, id="t")
    talk.send(TOPIC, "unheard")
    talk.send(QUEUE, "last")
    told.until(lambda: len(told.heard[QUEUE]) >= len(bodies) + 1)
    connection.disconnect()
    return told.heard


print(json.dumps(main()))
