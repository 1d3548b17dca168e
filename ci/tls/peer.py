"""The client of the conversations: tlslite-ng's handshake and record layer, with the means to send what no client sends."""

import socket
from unittest import mock

from tlslite.api import HandshakeSettings, TLSConnection
from tlslite.constants import AlertDescription, ContentType, HandshakeType
from tlslite.errors import TLSAbruptCloseError, TLSRemoteAlert

PATIENCE_S = 10
HEADER = 5
MAX_PLAINTEXT = 1 << 14
TLS12, TLS13 = (3, 3), (3, 4)
ALERT, HANDSHAKE, DATA, CCS = (
    ContentType.alert,
    ContentType.handshake,
    ContentType.application_data,
    ContentType.change_cipher_spec,
)
GET = b"GET /page.txt HTTP/1.1\r\nHost: localhost\r\n\r\n"
PAGE = b"a page"
# Among what is sent: the client sends no more.
END = None


def record(kind, body, version=TLS12, length=None):
    """A record as it is sent; its header may tell another length."""
    length = len(body) if length is None else length
    return bytes([kind, *version]) + length.to_bytes(2, "big") + bytes(body)


def message(kind, body=b"", length=None):
    """A handshake message; its header may tell another length."""
    length = len(body) if length is None else length
    return bytes([kind]) + length.to_bytes(3, "big") + bytes(body)


def alert_name(description):
    return AlertDescription.toStr(description).replace(" ", "_")


class Clear:
    """A connection before anything is encrypted."""

    def __init__(self, address):
        self.socket = socket.create_connection(address, timeout=PATIENCE_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, *pieces):
        """Each piece by itself. A server that has heard enough may have closed."""
        try:
            for piece in pieces:
                self.socket.shutdown(socket.SHUT_WR) if piece is END else self.socket.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def hear(self):
        """What comes to the end, in order: alerts and messages by their names, and how it ends."""
        return list(self.hears())

    def hears(self):
        while True:
            try:
                kind, body = self.record()
            except (EOFError, TLSAbruptCloseError):
                return (yield "end")
            except ConnectionResetError:
                return (yield "reset")
            except TimeoutError:
                return (yield "silence")
            if (kind, body[0]) not in ((HANDSHAKE, HandshakeType.new_session_ticket), (HANDSHAKE, HandshakeType.key_update)):
                yield self.name(kind, bytes(body))

    def record(self):
        head = self._exactly(HEADER)
        return head[0], self._exactly(int.from_bytes(head[3:], "big"))

    def _exactly(self, count):
        got = b""
        while len(got) < count:
            more = self.socket.recv(count - len(got))
            if not more:
                raise EOFError
            got += more
        return got

    @staticmethod
    def name(kind, body):
        if kind == ALERT and len(body) == 2:
            level = "warning " if body[0] == 1 and body[1] != AlertDescription.close_notify else ""
            return f"{level}{alert_name(body[1])}"
        if kind == HANDSHAKE:
            return HandshakeType.toStr(body[0])
        return {DATA: "data", CCS: "change_cipher_spec"}.get(kind, f"record {kind}")


class Secured(Clear):
    """A connection whose handshake is over, or has failed: then `refused` is the alert."""

    def __init__(self, address, version, patches=(), **settings):
        super().__init__(address)
        self.version, self.refused = version, None
        self.tls = TLSConnection(self.socket)
        self.tls.ignoreAbruptClose = True
        wanted = HandshakeSettings()
        wanted.minVersion = wanted.maxVersion = version
        if "record_size" in settings:
            self.tls.recordSize = settings.pop("record_size")
        for name, value in settings.items():
            setattr(wanted, name, value)
        self._shake(wanted, patches)

    def _shake(self, wanted, patches):
        """With each of `patches`, (owner, name, replacement), in place meanwhile."""
        replaced = [mock.patch.object(*patch) for patch in patches]
        for patch in replaced:
            patch.start()
        try:
            self.tls.handshakeClientCert(settings=wanted, serverName="localhost", alpn=[b"http/1.1"])
        except TLSRemoteAlert as error:
            self.refused = alert_name(error.description)
        except (TLSAbruptCloseError, ConnectionError) as error:
            self.refused = type(error).__name__
        finally:
            for patch in replaced:
                patch.stop()

    @property
    def layer(self):
        return self.tls._recordLayer

    def seal(self, plain, kind=DATA, padding=0):
        """A record of this content; in TLS 1.3 of this inner type, and with so many zeros behind it."""
        inner = bytes(plain)
        if self.version == TLS13:
            inner += bytes([kind]) + bytes(padding)
            kind = DATA
        return record(kind, self.layer._encryptThenSeal(bytearray(inner), kind))

    def seal_inner(self, inner):
        """A record of TLS 1.3 with just this inside."""
        return record(DATA, self.layer._encryptThenSeal(bytearray(inner), DATA))

    def say(self, plain, kind=DATA, **how):
        self.send(self.seal(plain, kind, **how))

    def turn_key(self):
        """What follows is sealed with the next key: to be called behind a KeyUpdate."""
        session = self.tls.session
        session.cl_app_secret, _ = self.layer.calcTLS1_3KeyUpdate_reciever(
            session.cipherSuite, session.cl_app_secret, session.sr_app_secret
        )

    def record(self):
        for got in self.layer.recvRecord():
            if got not in (0, 1):
                header, parser = got
                if self.version == TLS13 and header.type == HANDSHAKE and parser.bytes[0] == HandshakeType.key_update:
                    self._turn_read_key()
                return header.type, parser.bytes
        raise EOFError

    def _turn_read_key(self):
        session = self.tls.session
        _, session.sr_app_secret = self.layer.calcTLS1_3KeyUpdate_sender(
            session.cipherSuite, session.cl_app_secret, session.sr_app_secret
        )

    def is_served(self):
        self.say(GET)
        self.is_answered()

    def is_answered(self):
        """The page comes."""
        body = b""
        while PAGE not in body:
            kind, plain = self.record()
            if kind == ALERT:
                raise AssertionError(self.name(kind, bytes(plain)))
            if kind == DATA:
                body += bytes(plain)
