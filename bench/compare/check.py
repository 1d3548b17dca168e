"""Whether a peer answers as it should, before it is measured: the WebSocket opening and messages there and back; over
TLS also the certificate, the version, the cipher and that sessions are resumed.

Raw sockets, so that the check shares no code with the load generator or with a peer. Messages of 64 B and of 16 KiB:
the two sizes that are measured, which are also the two forms of length that they need.
"""

import base64
import hashlib
import os
import socket
import ssl
import struct
import urllib.request
from urllib.parse import urlsplit

from place import TLS, Failure

SIZES = (64, 16 * 1024)
FEED_SIZES = (64, 64, 1024)
LISTENERS = 3
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
TEXT, BINARY, CLOSE = 0x1, 0x2, 0x8  # RFC 6455, section 5.2
FIN = 0x80
LIMIT = 5.0  # seconds for each answer
SECURE = ("wss", "https", "tls")
# What is spoken with a client that would rather have AES-256, and by a server that cannot be told its order.
SPOKEN = ("TLSv1.3 TLS_AES_128_GCM_SHA256",)
SPOKEN_IN_ANY_ORDER = (*SPOKEN, "TLSv1.3 TLS_AES_256_GCM_SHA384")


def trust():
    """Clients that believe the authority of the comparison only, and keep sessions."""
    return ssl.create_default_context(cafile=TLS / "ca.pem")


class Stream:
    """A connection to the host of a URL that is read by counts and by lines."""

    def __init__(self, url, trusted=None, session=None):
        parts = urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), LIMIT)
        if parts.scheme in SECURE:
            trusted = trusted or trust()
            self.socket = trusted.wrap_socket(self.socket, server_hostname=parts.hostname, session=session)
        self.file = self.socket.makefile("rb")

    def send(self, data):
        self.socket.sendall(data)

    def take(self, count):
        data = self.file.read(count)
        if len(data) < count:
            raise Failure(f"the connection ended after {len(data)} of {count} bytes")
        return data

    def close(self):
        self.file.close()
        self.socket.close()


# ---- WebSocket ----


def request(url, key):
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    return (
        f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def accept_key(key):
    """What the server must answer to a key (RFC 6455, section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()


def read_head(stream):
    status = stream.file.readline().decode("latin-1").rstrip()
    fields = {}
    while line := stream.file.readline().decode("latin-1").rstrip():
        name, _, value = line.partition(":")
        fields[name.lower()] = value.strip()
    return status, fields


def open_websocket(url, trusted=None, session=None):
    """A WebSocket, its opening proved; the caller closes the stream."""
    stream = Stream(url, trusted, session)
    key = base64.b64encode(os.urandom(16)).decode()
    stream.send(request(url, key))
    status, fields = read_head(stream)
    if " 101" not in status or fields.get("sec-websocket-accept") != accept_key(key):
        raise Failure(f"no WebSocket: {status or 'the connection ended'}")
    if "sec-websocket-extensions" in fields:
        raise Failure(f"an extension that was not asked for: {fields['sec-websocket-extensions']}")
    return stream


def length_field(count):
    """The length of a client's frame, its mask bit set (RFC 6455, section 5.2)."""
    return bytes([0x80 | count]) if count < 126 else struct.pack("!BH", 0x80 | 126, count)


def frame(payload, opcode=BINARY):
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes([FIN | opcode]) + length_field(len(payload)) + mask + masked


def read_frame(stream):
    """(first byte, payload) of a server's frame."""
    first, second = stream.take(2)
    length = second & 0x7F
    if length == 126:
        (length,) = struct.unpack("!H", stream.take(2))
    elif length == 127:
        (length,) = struct.unpack("!Q", stream.take(8))
    return first, stream.take(length)


def read_message(stream, limit):
    """A message, its frames joined: proxies of bytes may cut it."""
    message = b""
    while len(message) < limit:
        first, payload = read_frame(stream)
        if first & 0xF == CLOSE:
            raise Failure(f"closed with {payload[:2].hex() or 'no code'}")
        message += payload
    return message


def compare(what, sent, got):
    if sent != got:
        raise Failure(f"{what}: {len(sent)} bytes came back as {len(got)} others")


# ---- TLS ----


def handshakes(url, good=SPOKEN):
    """The certificate holds, version and cipher are those that all are measured with, and sessions are resumed."""
    trusted = trust()
    first = open_websocket(url, trusted)
    spoken = f"{first.socket.version()} {first.socket.cipher()[0]}"
    again = open_websocket(url, trusted, first.socket.session)
    resumed = again.socket.session_reused
    first.close()
    again.close()
    if spoken not in good:
        raise Failure(f"TLS: {spoken}, not {' or '.join(good)}")
    if not resumed:
        raise Failure("TLS: a session is not resumed")


def page(url):
    """A GET is answered with 200, and the connection stays."""
    stream = Stream(url)
    for _ in range(2):
        stream.send(f"GET {urlsplit(url).path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n\r\n".encode())
        status, fields = read_head(stream)
        if " 200" not in status:
            raise Failure(f"no page: {status or 'the connection ended'}")
        stream.take(int(fields["content-length"]))
    stream.close()


# ---- what each kind of peer is asked ----


def websocket_echo(url):
    """Messages of each size come back as they were."""
    stream = open_websocket(url)
    for size in SIZES:
        payload = os.urandom(size)
        stream.send(frame(payload))
        compare("echo", payload, read_message(stream, size))
    stream.close()


def secure_echo(url):
    """As websocket_echo, over TLS."""
    handshakes(url)
    websocket_echo(url)


def secure_echo_in_any_order(url):
    """As secure_echo, of a server that takes the cipher that its client likes best."""
    handshakes(url, SPOKEN_IN_ANY_ORDER)
    websocket_echo(url)


def secure_edge(pages):
    """The check of an edge that takes TLS off: WebSockets that are carried, and a page of its own."""
    def answers(url):
        secure_echo(url)
        page(pages)
    return answers


def tcp_echo(url):
    """Bytes come back as they were."""
    stream = Stream(url)
    for size in SIZES:
        payload = os.urandom(size)
        stream.send(payload)
        compare("echo", payload, stream.take(size))
    stream.close()


def publish(url, form, payload):
    """Publishes a text: as the body of a POST, or as a message on a WebSocket."""
    body = form.replace("{}", payload.decode()).encode()
    if url.startswith("ws:"):
        stream = open_websocket(url)
        stream.send(frame(body, TEXT))
        return stream
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "text/x-message"})
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=LIMIT)


def open_events(url):
    """An event stream, its head read; the caller closes it."""
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    stream = Stream(url)
    stream.send(f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: text/event-stream\r\n\r\n".encode())
    status, fields = read_head(stream)
    if " 200" not in status or not fields.get("content-type", "").startswith("text/event-stream"):
        raise Failure(f"no event stream: {status or 'the connection ended'}")
    return stream


def read_event(stream, _):
    """The data of the next event."""
    while line := stream.file.readline():
        if line.startswith(b"data:"):
            return line.removeprefix(b"data:").strip()
    raise Failure("the event stream ended")


def hear(feed, streams, read):
    """What is published comes to each of these, once and in order."""
    for number, size in enumerate(FEED_SIZES):
        payload = f"{number}:".encode() + b"x" * (size - 2)
        publisher = publish(feed.publish, feed.publish_as, payload)
        for stream in streams:
            compare("broadcast", payload, read(stream, size))
        publisher.close()
    for stream in streams:
        stream.close()


def broadcast(feed):
    """The check of a server that carries what is published to all: over WebSocket, and by events where it can."""
    def carries(url):
        if url.startswith("wss:"):
            handshakes(url)
        hear(feed, [open_websocket(url) for _ in range(LISTENERS)], read_message)
        if feed.events:
            hear(feed, [open_events(feed.events) for _ in range(LISTENERS)], read_event)
    return carries


def subscriber(url):
    """What is published at /pub reaches a subscriber at /sub."""
    stream = open_websocket(url)
    for size in SIZES:
        payload = b"x" * size
        publish = urllib.request.Request(url.replace("ws:", "http:").replace("/sub", "/pub"), data=payload)
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(publish, timeout=LIMIT).close()
        compare("publish", payload, read_message(stream, size))
    stream.close()
