"""Conversations behind a handshake: records and messages that are not what they should be, or are and are seldom seen. RFC 8446
sections 4.6 to 6, RFC 5246 sections 6 and 7.

A conversation is (clause, what is done, the versions, a function of the peer, what is heard); "served" means that a request is
answered then, an alert that it is not: that the alert comes in front of the end, and nothing else.
"""

from hellos import CLIENT_HELLO, FINISHED, KEY_UPDATE, body, old
from peer import ALERT, CCS, DATA, GET, HANDSHAKE, HEADER, MAX_PLAINTEXT, TLS12, TLS13, message, record

BOTH, OLD, NEW = (TLS12, TLS13), (TLS12,), (TLS13,)
TICKET, CERTIFICATE_REQUEST, HELLO_REQUEST = 4, 13, 0
HEARTBEAT = 24
MANY = 100
TAG = 16


def update(requested=0):
    return message(KEY_UPDATE, bytes([requested]))


def says(plain, kind=DATA, **how):
    return lambda peer: peer.say(plain, kind, **how)


def sends(*pieces):
    return lambda peer: peer.send(*pieces)


def each(times, plain, kind=DATA, **how):
    """So many of them in one flight."""
    return lambda peer: peer.send(b"".join(peer.seal(plain, kind, **how) for _ in range(times)))


def changed(at):
    def send(peer):
        sealed = bytearray(peer.seal(GET))
        sealed[at] ^= 1
        peer.send(sealed)

    return send


def cut(peer):
    sealed = peer.seal(GET)
    peer.send(record(DATA, sealed[HEADER:-1]))


def again(peer):
    """The same record twice: the second is out of its place."""
    sealed = peer.seal(b"")
    peer.send(sealed, sealed)


def inner(*plain):
    return lambda peer: peer.send(*(peer.seal_inner(each) for each in plain))


def turned(requested, times=1):
    """KeyUpdates, each followed by the next key."""

    def send(peer):
        for _ in range(times):
            peer.say(update(requested), HANDSHAKE)
            peer.turn_key()

    return send


def in_pieces(peer):
    for byte in update(1):
        peer.say(bytes([byte]), HANDSHAKE)
    peer.turn_key()


def between(kind, what):
    def send(peer):
        peer.say(update()[:2], HANDSHAKE)
        peer.say(what, kind)

    return send


def not_turned(peer):
    """A KeyUpdate, and then a record under the old key."""
    peer.say(update(), HANDSHAKE)
    peer.say(GET)


def byte_by_byte(peer):
    peer.send(b"".join(peer.seal(GET[at : at + 1]) for at in range(len(GET) - 1)))
    peer.say(GET[-1:])
    peer.is_answered()


def each_byte_alone(peer):
    for byte in peer.seal(GET):
        peer.send(bytes([byte]))
    peer.is_answered()


def renegotiates(peer):
    peer.say(message(CLIENT_HELLO, old()), HANDSHAKE)
    refused = next(peer.hears())
    assert refused == "warning no_renegotiation", refused


def renegotiates_again(peer):
    renegotiates(peer)
    peer.say(message(CLIENT_HELLO, old()), HANDSHAKE)


FAULTS = [
    # -- records
    ("RFC 8446 5.2", "a byte changed in a record", BOTH, changed(20), "bad_record_mac"),
    ("RFC 8446 5.2", "a byte changed in the tag", BOTH, changed(-1), "bad_record_mac"),
    ("RFC 8446 5.2", "a record that is cut by a byte", BOTH, cut, "bad_record_mac"),
    ("RFC 8446 5.2", "a record twice", BOTH, again, "bad_record_mac"),
    ("RFC 8446 5.2", "a record in clear text", BOTH, sends(record(DATA, GET)), "bad_record_mac"),
    ("RFC 8446 5.2", "a record shorter than its tag", BOTH, sends(record(DATA, bytes(TAG - 1))), "bad_record_mac"),
    ("RFC 8446 5.2", "a record of nothing", BOTH, sends(record(DATA, b"")), "bad_record_mac"),
    ("RFC 8446 5.2", "a header of more than 2^14 + 256", NEW, sends(record(DATA, b"", length=MAX_PLAINTEXT + 257)), "record_overflow"),
    ("RFC 5246 6.2.3", "a header of more than 2^14 + 2048", OLD, sends(record(DATA, b"", length=MAX_PLAINTEXT + 2049)), "record_overflow"),
    ("RFC 8446 5.4", "plaintext above 2^14", BOTH, says(bytes(MAX_PLAINTEXT + 1)), "record_overflow"),
    ("RFC 8446 5.4", "padding above 2^14", NEW, says(b"x", padding=MAX_PLAINTEXT), "record_overflow"),
    ("RFC 8446 5.4", "padding only", NEW, inner(bytes(100)), "unexpected_message"),
    ("RFC 8446 5.4", "nothing, not even a type", NEW, inner(b""), "unexpected_message"),
    ("RFC 8446 5", "a record of no type that there is", BOTH, sends(record(99, bytes(40))), "unexpected_message"),
    ("RFC 8446 5", "an inner type that there is not", NEW, says(b"x", 99), "unexpected_message"),
    ("RFC 6520 3", "a heartbeat that was not agreed upon", BOTH, says(b"\1\xff\xff" + bytes(16), HEARTBEAT), "unexpected_message"),
    ("RFC 8446 5", "change_cipher_spec", NEW, sends(record(CCS, b"\1")), "unexpected_message"),
    ("RFC 8446 5", "change_cipher_spec, encrypted", BOTH, says(b"\1", CCS), "unexpected_message"),
    ("RFC 8446 5.2", "a handshake record in clear text", NEW, sends(record(HANDSHAKE, update())), "unexpected_message"),
    ("RFC 8446 5.1", "an empty handshake record", BOTH, says(b"", HANDSHAKE), "unexpected_message"),
    ("RFC 8446 5.1", "an empty alert", BOTH, says(b"", ALERT), "unexpected_message"),
    ("RFC 8446 5.1", "a flood of empty records", BOTH, each(MANY, b""), "unexpected_message"),
    ("RFC 8446 5.4", "a flood of empty records that are padded", NEW, each(MANY, b"", padding=100), "unexpected_message"),
    # -- KeyUpdate
    ("RFC 8446 4.6.3", "a KeyUpdate of another value", NEW, says(update(2), HANDSHAKE), "illegal_parameter"),
    ("RFC 8446 4.6.3", "a KeyUpdate of two bytes", NEW, says(message(KEY_UPDATE, b"\0\0"), HANDSHAKE), "decode_error"),
    ("RFC 8446 4.6.3", "a KeyUpdate of no bytes", NEW, says(message(KEY_UPDATE), HANDSHAKE), "decode_error"),
    ("RFC 8446 5.1", "a KeyUpdate that is not the last of its record", NEW, says(update() + update(), HANDSHAKE), "unexpected_message"),
    ("RFC 8446 5.1", "data between the pieces of a KeyUpdate", NEW, between(DATA, GET), "unexpected_message"),
    ("RFC 8446 5.1", "an alert between the pieces of a KeyUpdate", NEW, between(ALERT, b"\1\0"), "unexpected_message"),
    ("RFC 8446 4.6.3", "the old key behind a KeyUpdate", NEW, not_turned, "bad_record_mac"),
    ("RFC 8446 4.6.3", "a flood of KeyUpdates", NEW, turned(0, MANY), "unexpected_message"),
    ("RFC 8446 4.6.3", "a flood of KeyUpdates that ask for one", NEW, turned(1, MANY), "unexpected_message"),
    # -- other messages
    ("RFC 8446 4.1.2", "a hello", NEW, says(message(CLIENT_HELLO, body()), HANDSHAKE), "unexpected_message"),
    ("RFC 8446 4.6.1", "a ticket of the client's", NEW, says(message(TICKET, bytes(16)), HANDSHAKE), "unexpected_message"),
    ("RFC 8446 4.4.4", "a Finished", BOTH, says(message(FINISHED, bytes(32)), HANDSHAKE), "unexpected_message"),
    ("RFC 8446 4.3.2", "a CertificateRequest", BOTH, says(message(CERTIFICATE_REQUEST, bytes(4)), HANDSHAKE), "unexpected_message"),
    ("RFC 5246 7.4.1.1", "a HelloRequest of the client's", OLD, says(message(HELLO_REQUEST), HANDSHAKE), "unexpected_message"),
    ("RFC 8446 4.6.3", "a KeyUpdate", OLD, says(update(), HANDSHAKE), "unexpected_message"),
    ("RFC 8446 4", "a message of no type that there is", BOTH, says(message(77, b"x"), HANDSHAKE), "unexpected_message"),
    ("RFC 5246 7.2.2", "a second attempt to renegotiate", OLD, renegotiates_again, "unexpected_message"),
    # -- alerts
    ("RFC 8446 6", "an alert of one byte", BOTH, says(b"\1", ALERT), "decode_error"),
    ("RFC 8446 6", "an alert of three bytes", BOTH, says(b"\1\0\0", ALERT), "decode_error"),
    ("RFC 8446 6", "an alert of no level that there is", BOTH, says(b"\3\x5a", ALERT), "illegal_parameter"),
    ("RFC 5246 7.2", "a flood of warnings", OLD, each(MANY, b"\1\x5a", ALERT), "unexpected_message"),
    ("RFC 8446 6.1", "a flood of user_canceled", NEW, each(MANY, b"\1\x5a", ALERT), "unexpected_message"),
]
# Not answered by an alert.
ENDS = [
    ("RFC 8446 6.2", "a fatal alert", BOTH, says(b"\2\x28", ALERT), "end"),
    ("RFC 8446 6", "a warning of no description that there is", NEW, says(b"\1\xc8", ALERT), "end"),
]
# Who says close_notify between two requests does not hear it (RFC 8446 section 6.1 would have it so): the connection is closed.
CLOSES = [
    ("RFC 8446 6.1", "close_notify", BOTH, says(b"\1\0", ALERT), "end"),
    ("RFC 8446 6.1", "close_notify of level fatal", NEW, says(b"\2\0", ALERT), "end"),
]
SERVED = [
    ("RFC 8446 5.1", "an empty record", BOTH, says(b""), "served"),
    ("RFC 8446 5.1", "empty records, some", BOTH, each(20, b""), "served"),
    ("RFC 8446 5.4", "a record as long as it may be, padded", NEW, says(b"", padding=MAX_PLAINTEXT), "served"),
    ("RFC 8446 5.1", "records of a byte", BOTH, byte_by_byte, "served"),
    ("RFC 8446 5.1", "a record byte by byte", BOTH, each_byte_alone, "served"),
    ("RFC 8446 4.6.3", "a KeyUpdate", NEW, turned(0), "served"),
    ("RFC 8446 4.6.3", "a KeyUpdate that asks for one", NEW, turned(1), "served"),
    ("RFC 8446 4.6.3", "KeyUpdates, some", NEW, turned(1, 10), "served"),
    ("RFC 8446 5.1", "a KeyUpdate in pieces", NEW, in_pieces, "served"),
    ("RFC 5246 7.2.2", "an attempt to renegotiate, which is refused by a warning", OLD, renegotiates, "served"),
    ("RFC 8446 6.1", "user_canceled", BOTH, says(b"\1\x5a", ALERT), "served"),
    ("RFC 5246 7.2.2", "a warning of no description that there is", OLD, says(b"\1\xc8", ALERT), "served"),
]
ALL = [*FAULTS, *ENDS, *CLOSES, *SERVED]
# For edgehold's count: those that end by a fault of the client, or by its alert.
COUNTED = [*FAULTS, *ENDS]
