# uWebSockets as an echo server, through its Python binding socketify: no registry carries it otherwise.
# Where its documentation says so: docs.socketify.dev, and uWebSockets' UserManual (github.com/uNetworking/uWebSockets).
#
# Each message passes through one call of Python; what that costs is in the figures.
import sys

from socketify import App, AppListenOptions, AppOptions, CompressOptions

HOST, PORT = sys.argv[1].split(":")
# Over TLS where two more arguments name a certificate and its key. The library has BoringSSL in it: it takes the
# cipher that the client likes best, which is AES-128 while it is measured, and sessions are resumed by tickets. The
# setting has idle connections give their buffers back (SSL_MODE_RELEASE_BUFFERS).
FILES = {"cert_file_name": sys.argv[2], "key_file_name": sys.argv[3]} if sys.argv[2:] else None


def echo(client, message, opcode):
    client.send(message, opcode)


app = App(FILES and AppOptions(**FILES, ssl_prefer_low_memory_usage=1))
app.ws("/*", {
    "compression": CompressOptions.DISABLED,  # UserManual, "Compression": costs memory and time
    "max_payload_length": 1024 * 1024,
    "max_backpressure": 1024 * 1024,  # UserManual, "Backpressure": beyond it messages are dropped
    "idle_timeout": 960,  # UserManual, "Settings": the longest
    "send_pings_automatically": False,  # as for every peer
    "message": echo,
})
app.listen(AppListenOptions(port=int(PORT), host=HOST), lambda config: None)
# Not app.run(): that loop is asyncio's and looks at libuv by polling, with pauses of up to 10 ms, so that its figures
# would be those of the binding. Nothing here needs asyncio, and libuv's own loop waits in the kernel.
app.loop.uv_loop.run()
