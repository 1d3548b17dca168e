"""Hellos, byte by byte, and the conversations that end with one. RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2.

A conversation is (clause, what is sent, its pieces, the alert that must answer, in clear text and before the end; "end" is an
end without one). Where the RFC names an alert, it is this one. It does not for records in clear text that are empty or between
the pieces of a message; and RFC 8446 section 9.2 names missing_extension, of which rustls says handshake_failure for two of
the three extensions, since it has not yet looked which version is to be spoken.
"""

from peer import ALERT, CCS, DATA, END, HANDSHAKE, MAX_PLAINTEXT, message, record

SUITES_13, SUITES_12 = [0x1301, 0x1302], [0xC02B, 0xC02F]
X25519, P256 = 0x001D, 0x0017
SCHEMES = [0x0403, 0x0804]
CLIENT_HELLO, SERVER_HELLO, FINISHED, KEY_UPDATE = 1, 2, 20, 24


def words(values):
    return b"".join(value.to_bytes(2, "big") for value in values)


def vector(body, size):
    return len(body).to_bytes(size, "big") + bytes(body)


def share(group, key):
    return vector(words([group]) + vector(key, 2), 2)


NAME = vector(b"\0" + vector(b"localhost", 2), 2)
EXTENSIONS = {
    0: NAME,
    10: vector(words([X25519, P256]), 2),
    13: vector(words(SCHEMES), 2),
    16: vector(vector(b"http/1.1", 1), 2),
    43: vector(words([0x0304, 0x0303]), 1),
    51: share(X25519, bytes(range(9, 41))),
}


def body(version=0x0303, session=b"", suites=(*SUITES_13, *SUITES_12), compression=b"\0", without=(), tail=b"", **changed):
    """The body of a hello; `changed` has other extensions by their numbers, as in `e43=...`."""
    extensions = {number: data for number, data in EXTENSIONS.items() if number not in without}
    extensions.update({int(name[1:]): data for name, data in changed.items()})
    written = b"".join(words([number]) + vector(data, 2) for number, data in extensions.items())
    head = words([version]) + bytes(range(32)) + vector(session, 1) + vector(words(suites), 2) + vector(compression, 1)
    return head + vector(written + tail, 2)


def old(version=0x0303, **how):
    """Of TLS 1.2 or before: without the extensions of 1.3."""
    return body(version, without=(43, 51, *how.pop("without", ())), suites=how.pop("suites", SUITES_12), **how)


def sent(what, **header):
    """A hello in one record."""
    return [record(HANDSHAKE, message(CLIENT_HELLO, what, **header), version=(3, 1))]


def versions(*numbers):
    return vector(words(numbers), 1)


ONLY_P256, OFF_CURVE = vector(words([P256]), 2), b"\4" + b"\7" * 64
PSK = vector(vector(b"ticket", 2) + bytes(4), 2) + vector(vector(bytes(32), 1), 2)
SERVERS = message(SERVER_HELLO, words([0x0303]) + bytes(32) + b"\0" + words([0xC02B]) + b"\0")
DUPLICATE = words([10]) + vector(vector(words([X25519]), 2), 2)
BEGUN = record(HANDSHAKE, message(CLIENT_HELLO, body())[:50])
SSLV2 = b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(37)
REFUSED = [
    # -- versions
    ("RFC 5246 E.1", "TLS 1.1", sent(old(0x0302)), "protocol_version"),
    ("RFC 5246 E.1", "TLS 1.1, without signature_algorithms, as it was", sent(old(0x0302, without=(13,))), "protocol_version"),
    ("RFC 5246 E.1", "TLS 1.0", sent(old(0x0301, without=(13,))), "protocol_version"),
    ("RFC 5246 E.1", "SSL 3.0", sent(old(0x0300, without=(13,))), "protocol_version"),
    ("RFC 8446 4.2.1", "supported_versions of 1.1 and 1.0", sent(body(e43=versions(0x0302, 0x0301))), "protocol_version"),
    ("RFC 8446 4.2.1", "supported_versions of none that there is", sent(body(e43=versions(0x0A0A, 0x0305))), "protocol_version"),
    ("RFC 8446 4.2.1", "supported_versions of nothing", sent(body(e43=b"\0")), "decode_error"),
    ("RFC 8446 5.1", "a hello of SSL 2.0", [SSLV2], "unexpected_message"),
    # -- ciphers, groups, signatures
    ("RFC 8446 4.1.1", "suites of CBC only", sent(old(suites=[0xC013, 0x002F])), "handshake_failure"),
    ("RFC 8446 4.1.1", "suites of no encryption", sent(old(suites=[0xC010, 0x0002])), "handshake_failure"),
    ("RFC 8446 4.1.1", "a suite that nobody knows", sent(body(suites=[0x1399])), "handshake_failure"),
    ("RFC 8446 4.1.1", "suites of 1.2 for 1.3", sent(body(suites=SUITES_12, e43=versions(0x0304))), "handshake_failure"),
    ("RFC 8446 4.1.2", "no suites", sent(body(suites=[])), "decode_error"),
    ("RFC 8446 4.1.1", "groups that nobody knows", sent(body(e10=vector(words([0x4242]), 2), e51=share(0x4242, b"x"))), "handshake_failure"),
    ("RFC 8446 4.2.3", "signatures that nobody knows", sent(old(e13=vector(words([0x4242]), 2))), "handshake_failure"),
    ("RFC 5246 7.4.1.4.1", "1.2 and signatures of SHA-1 only", sent(old(e13=vector(words([0x0203, 0x0201]), 2))), "handshake_failure"),
    ("RFC 8446 9.2", "1.3 without signature_algorithms", sent(body(without=(13,))), "handshake_failure"),
    ("RFC 8446 9.2", "1.3 without supported_groups", sent(body(without=(10, 51))), "handshake_failure"),
    ("RFC 8446 9.2", "1.3 without key_share", sent(body(without=(51,))), "missing_extension"),
    ("RFC 8446 4.1.2", "compression of something", sent(body(compression=b"\1\0")), "illegal_parameter"),
    ("RFC 8446 4.1.2", "no compression of nothing", sent(body(compression=b"\1")), "illegal_parameter"),
    # -- what is in extensions
    ("RFC 7301 3.2", "ALPN of h2 only", sent(old(e16=vector(vector(b"h2", 1), 2))), "no_application_protocol"),
    ("RFC 7301 3.1", "ALPN of nothing", sent(body(e16=b"\0\0")), "decode_error"),
    ("RFC 7301 3.1", "ALPN with a protocol without a name", sent(body(e16=vector(b"\0", 2))), "decode_error"),
    ("RFC 8446 4.2", "an extension twice", sent(body(tail=DUPLICATE)), "illegal_parameter"),
    ("RFC 8446 4.2.8", "a key of X25519 of 31 bytes", sent(body(e51=share(X25519, bytes(31)))), "illegal_parameter"),
    ("RFC 7748 6.1", "a key of X25519 of zeros", sent(body(e51=share(X25519, bytes(32)))), "illegal_parameter"),
    ("RFC 8446 4.2.8.2", "a point that is not on P-256", sent(body(e10=ONLY_P256, e51=share(P256, OFF_CURVE))), "illegal_parameter"),
    ("RFC 8446 4.2.11", "pre_shared_key, not the last", sent(body(e45=b"\1\1", e41=PSK, e99=b"")), "illegal_parameter"),
    ("RFC 6066 3", "a server_name without a name", sent(body(e0=vector(b"\0\0\0", 2))), "decode_error"),
    ("RFC 6066 3", "a server_name that is longer than it says", sent(body(e0=NAME + b"x")), "decode_error"),
    ("RFC 8446 6.2", "an extension that is longer than the hello", sent(body(tail=words([99, 500]))), "decode_error"),
    ("RFC 8446 6.2", "bytes behind the extensions", sent(body() + b"x"), "decode_error"),
    ("RFC 8446 6.2", "a hello that is cut", sent(body()[:60]), "decode_error"),
    ("RFC 8446 4.1.2", "a session of 33 bytes", sent(body(session=bytes(33))), "decode_error"),
    # -- messages and records
    ("RFC 8446 4.1.2", "a ServerHello", [record(HANDSHAKE, SERVERS)], "unexpected_message"),
    ("RFC 8446 4.4.4", "a Finished", [record(HANDSHAKE, message(FINISHED, bytes(32)))], "unexpected_message"),
    ("RFC 8446 4.6.3", "a KeyUpdate", [record(HANDSHAKE, message(KEY_UPDATE, b"\0"))], "unexpected_message"),
    ("RFC 8446 4", "a message of no type that there is", [record(HANDSHAKE, message(77, b"x"))], "unexpected_message"),
    ("RFC 8446 5.1", "an empty record", [record(HANDSHAKE, b"")], "decode_error"),
    ("RFC 8446 5.1", "data", [record(DATA, b"GET / HTTP/1.1\r\n\r\n")], "unexpected_message"),
    ("RFC 8446 5", "change_cipher_spec", [record(CCS, b"\1")], "unexpected_message"),
    ("RFC 8446 5.1", "an alert between two pieces", [BEGUN, record(ALERT, b"\1\0")], "decode_error"),
    ("RFC 8446 5.1", "data between two pieces", [BEGUN, record(DATA, b"x")], "decode_error"),
    ("RFC 8446 5", "a record of no type that there is", [record(99, b"x")], "unexpected_message"),
    ("RFC 8446 5.1", "a record above 2^14 bytes", [record(HANDSHAKE, b"\1", length=MAX_PLAINTEXT + 2049)], "record_overflow"),
    ("RFC 8446 5.1", "two hellos in one record", sent(body() + message(CLIENT_HELLO, body())), "decode_error"),
    ("RFC 8446 6.2", "a hello of 16 MiB", [record(HANDSHAKE, message(CLIENT_HELLO, bytes(16_000), length=0xFFFFFF))] * 2, "decode_error"),
    ("RFC 8446 6", "a fatal alert", [record(ALERT, b"\2\x28")], "end"),
    ("RFC 8446 6.1", "close_notify, and no more", [record(ALERT, b"\1\0"), END], "end"),
    ("RFC 8446 6", "an alert of one byte", [record(ALERT, b"\2")], "decode_error"),
    ("RFC 8446 5.1", "an alert of no bytes", [record(ALERT, b"")], "decode_error"),
    ("RFC 8446 5", "bytes that are no record", [bytes(range(200, 250))], "unexpected_message"),
    ("RFC 8446 5", "SSH", [b"SSH-2.0-client\r\n"], "unexpected_message"),
]
