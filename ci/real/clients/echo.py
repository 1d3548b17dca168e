"""The `websockets` client over TLS: connects, has messages echoed, and prints as JSON how that went.

Arguments: a JSON object {url, version, ca, cert, key}; version "1.2" or "1.3"; cert and key may be missing.
Prints {"echoed": N, "version": ..., "cipher": ...}, or {"refused": "what the client is told"}.
"""

import json
import ssl
import sys

from websockets.exceptions import ConnectionClosedError, InvalidMessage
from websockets.sync.client import ClientConnection, connect

SIZES = [0, 1, 125, 126, 16_383, 16_384, 16_385, 65_536, 300_000]
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def context(version, ca, cert=None, key=None, **_):
    made = ssl.create_default_context(cafile=ca)
    made.minimum_version = made.maximum_version = VERSIONS[version]
    if cert:
        made.load_cert_chain(cert, key)
    return made


class Connection(ClientConnection):
    """Remembers what its socket has told: `connect` only says that no answer came, or that nothing could be sent."""

    told = []

    def set_connection_exc(self, exc):
        Connection.told.append(str(exc))
        super().set_connection_exc(exc)


def echo(url, made):
    with connect(url, ssl=made, create_connection=Connection, compression=None, proxy=None, max_size=None, open_timeout=10) as ws:
        for size in SIZES:
            body = bytes(i % 251 for i in range(size))
            ws.send(body)
            if ws.recv(timeout=10) != body:
                raise AssertionError(f"{size} bytes came back as others")
        version, (cipher, *_rest) = ws.socket.version(), ws.socket.cipher()
        return {"echoed": len(SIZES), "version": version, "cipher": cipher}


def main(wanted):
    """In TLS 1.3 a client is done with its handshake before the server has seen its certificate: the alert comes later."""
    try:
        return echo(wanted["url"], context(**wanted))
    except ssl.SSLError as error:
        return {"refused": str(error)}
    except (ConnectionClosedError, InvalidMessage):
        return {"refused": ", ".join(Connection.told)}


print(json.dumps(main(json.loads(sys.argv[1]))))
