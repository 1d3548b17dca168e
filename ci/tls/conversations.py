"""Conversations that no client has: each breaks one rule of TLS, and must be answered by the alert that the RFCs have for it before
the connection ends, and by nothing else; or it keeps all rules in a way that is seldom seen, and must be served.

Argument: the PORT of 127.0.0.1 at which `GET /page.txt` is answered with a page. Prints JSON: {"conversations": how many,
"different": ["what was heard instead"...], "refused": handshakes that had to fail, "faults": connections that had to, later}.
"""

import json
import sys

from tlslite import messages

import hellos
import records
from peer import END, GET, TLS12, TLS13, Clear, Secured

NAMES = {TLS12: "TLS 1.2", TLS13: "TLS 1.3"}
BOTH = (TLS12, TLS13)


def spoiled(owner):
    """What replaces the writing of a message: its last byte is another."""
    write = owner.write

    def spoil(self, *args):
        written = bytearray(write(self, *args))
        written[-1] ^= 1
        return written

    return [(owner, "write", spoil)]


FLIGHTS = [
    ("RFC 8446 4.4.4", "a Finished that is not right", BOTH, spoiled(messages.Finished), "decrypt_error"),
    ("RFC 5246 7.4.7", "another key than the client's", (TLS12,), spoiled(messages.ClientKeyExchange), "bad_record_mac"),
]
# What a handshake may be like: pieces of hellos and flights, and a key for a group that the server must ask for.
SETTINGS = [
    ("RFC 8446 5.1", "a handshake in records of 30 bytes", BOTH, {"record_size": 30}),
    ("RFC 8446 5.1", "a handshake in records of a byte", BOTH, {"record_size": 1}),
    ("RFC 8446 4.1.4", "no key in the hello", (TLS13,), {"keyShares": []}),
    ("RFC 8446 4.2.8", "a group of P-384", (TLS13,), {"eccCurves": ["secp384r1"], "keyShares": ["secp384r1"]}),
]


def refused_hello(address, pieces, expected):
    with Clear(address) as peer:
        peer.send(*pieces)
        return peer.hear(), ["end"] if expected == "end" else [expected, "end"]


def refused_flight(address, version, patches, expected):
    with Secured(address, version, patches) as peer:
        # In TLS 1.3 the client is done before the server has looked.
        heard = peer.refused or next(peer.hears())
        return [heard], [expected]


def served(peer):
    peer.is_served()
    return ["served"]


def told(peer):
    """To the end; what the client says behind its fault is not answered."""
    peer.say(GET)
    return list(peer.hears())


def spoken(address, version, act, expected):
    """`expected`: "served", that a request is answered; "end"; or an alert, which the end follows."""
    with Secured(address, version) as peer:
        if peer.refused:
            return [peer.refused], [expected]
        act(peer)
        if expected == "served":
            return served(peer), [expected]
        return told(peer), ["end"] if expected == "end" else [expected, "end"]


def shaken(address, version, settings):
    with Secured(address, version, **settings) as peer:
        return [peer.refused] if peer.refused else served(peer), ["served"]


def all_of(address):
    """Each conversation's words, and a function that holds it."""
    for clause, what, pieces, expected in hellos.REFUSED:
        yield f"{what} ({clause})", lambda p=pieces, e=expected: refused_hello(address, p, e)
    for table, hold in ((FLIGHTS, refused_flight), (records.ALL, spoken)):
        for clause, what, versions, act, expected in table:
            for version in versions:
                yield f"{what}, {NAMES[version]} ({clause})", lambda h=hold, v=version, a=act, e=expected: h(address, v, a, e)
    for clause, what, versions, settings in SETTINGS:
        for version in versions:
            yield f"{what}, {NAMES[version]} ({clause})", lambda v=version, s=settings: shaken(address, v, s)


def hold(conversation):
    try:
        heard, expected = conversation()
    except Exception as error:  # of tlslite or of the peer: what was heard is not what it can be
        return f"{type(error).__name__}: {error}"
    return "" if heard == expected else f"{', '.join(heard)} instead of {', '.join(expected)}"


def conversations_of(table):
    return sum(len(versions) for _, _, versions, *_ in table)


def main(port):
    results = {words: hold(conversation) for words, conversation in all_of(("127.0.0.1", port))}
    print(
        json.dumps(
            {
                "conversations": len(results),
                "different": [f"{words}: {wrong}" for words, wrong in results.items() if wrong],
                # Who leaves without a word of TLS has not failed.
                "refused": sum(END not in pieces for _, _, pieces, _ in hellos.REFUSED) + conversations_of(FLIGHTS),
                "faults": conversations_of(records.COUNTED),
            }
        )
    )


main(int(sys.argv[1]))
