# uWebSockets as a broadcast server, through its Python binding socketify: no registry carries it otherwise.
# Where its documentation says so: docs.socketify.dev, and uWebSockets' UserManual (github.com/uNetworking/uWebSockets).
#
# UserManual, "Pub/sub": subscribers of a topic, and one publish for all of them. A message passes through Python once;
# everything behind app.publish, which is uws_publish of the library, is uWebSockets' own topic tree in C++.
import sys

from socketify import App, AppListenOptions, CompressOptions

HOST, PORT = sys.argv[1].split(":")
TOPIC = "bench"

SETTINGS = {
    "compression": CompressOptions.DISABLED,  # UserManual, "Compression": costs memory and time
    "max_payload_length": 1024 * 1024,
    "max_backpressure": 1024 * 1024,  # UserManual, "Backpressure": beyond it messages are dropped
    "idle_timeout": 960,  # UserManual, "Settings": the longest
    "send_pings_automatically": False,  # as for every peer
}


def join(client):
    client.subscribe(TOPIC)


def publish(client, message, opcode):
    app.publish(TOPIC, message, opcode)


app = App()
app.ws("/feed", {**SETTINGS, "open": join})
app.ws("/publish", {**SETTINGS, "message": publish})
app.listen(AppListenOptions(port=int(PORT), host=HOST), lambda config: None)
# Not app.run(): that loop is asyncio's and looks at libuv by polling, with pauses of up to 10 ms, so that its figures
# would be those of the binding. Nothing here needs asyncio, and libuv's own loop waits in the kernel.
app.loop.uv_loop.run()
