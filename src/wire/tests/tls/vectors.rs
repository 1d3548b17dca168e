//! RFC 8448 section 3, "Simple 1-RTT Handshake": the records behind the handshake, as either end sends and reads them.

use crate::peers::Peer;
use edgehold_wire::tls::{Aead, Direction, Opened, Parked, Plain, Role, Suite};

const CLIENT_SECRET: &str = "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5";
const SERVER_SECRET: &str = "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643";
/// The server's first record.
const TICKET: &str = "17030300de3a6b8f90414a97d6959c3487680de5134a2b240e6cffac116e95d41d6af8f6b580dcf3d11d63c758db289a\
    015940252f55713e061dc13e078891a38efbcf5753ad8ef170ad3c7353d16d9da773b9ca7f2b9fa1b6c0d4a3d03f75e09c30ba1e62972ac4\
    6f75f7b981be63439b2999ce13064615139891d5e4c5b406f16e3fc181a77ca475840025db2f0a77f81b5ab05b94c01346755f69232c8651\
    9d86cbeeac87aac347d143f9605d64f650db4d023e70e952ca49fe5137121c74bc2697687e248746d6df353005f3bce18696129c8153556b\
    3b6c6779b37bf15985684f";
const CLIENT_DATA: &str = "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a\
    20441e2b62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4";
const SERVER_DATA: &str = "17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e30efaf97d90e6dffc602dcb\
    501a59a8fcc49c4bf2e5f0a21c0047c2abf332540dd032e167c2955d";
const CLIENT_CLOSE: &str = "1703030013c9872760655666b74d7ff1153efd6db6d0b0e3";
const SERVER_CLOSE: &str = "1703030013b58fd67166ebf599d24720cfbe7efa7a8864a9";

fn hex(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn payload() -> Vec<u8> {
    (0..=0x31).collect()
}

/// `sequence` is of the server's records: the ticket takes number 0.
fn end(role: Role, sequence: u64) -> Parked {
    let (client, server) = (hex(CLIENT_SECRET), hex(SERVER_SECRET));
    let (client, server) =
        (Direction { sequence: 0, material: &client }, Direction { sequence, material: server.as_slice() });
    let suite = Suite::tls13(Aead::Aes128Gcm);
    match role {
        Role::Server => Parked::new(suite, role, server, client),
        Role::Client => Parked::new(suite, role, client, server),
    }
    .unwrap()
}

fn seal(parked: &mut Parked, plain: &[u8]) -> Vec<u8> {
    let mut out = [0; 200];
    let len = parked.wake_write().seal(&mut Plain::new(&[plain]), &mut out).unwrap();
    out[..len].to_vec()
}

fn close(parked: &mut Parked) -> Vec<u8> {
    let mut out = [0; 200];
    let len = parked.wake_write().close_notify(&mut out);
    out[..len].to_vec()
}

#[test]
fn what_is_sealed_is_what_the_rfc_prints() {
    let (mut client, mut server) = (end(Role::Client, 0), end(Role::Server, 1));
    assert_eq!(seal(&mut client, &payload()), hex(CLIENT_DATA));
    assert_eq!(seal(&mut server, &payload()), hex(SERVER_DATA));
    assert_eq!(close(&mut client), hex(CLIENT_CLOSE));
    assert_eq!(close(&mut server), hex(SERVER_CLOSE));
}

#[test]
fn what_the_rfc_prints_is_opened() {
    let (mut client, mut server) = (end(Role::Client, 0), end(Role::Server, 1));
    let (mut ticket, mut data, mut closing) = (hex(TICKET), hex(SERVER_DATA), hex(SERVER_CLOSE));
    assert_eq!(client.wake_read().open(&mut ticket), Ok(Opened::Nothing));
    assert_eq!(client.wake_read().open(&mut data), Ok(Opened::Data(&mut payload())));
    assert_eq!(client.wake_read().open(&mut closing), Ok(Opened::CloseNotify));
    let (mut data, mut closing) = (hex(CLIENT_DATA), hex(CLIENT_CLOSE));
    assert_eq!(server.wake_read().open(&mut data), Ok(Opened::Data(&mut payload())));
    assert_eq!(server.wake_read().open(&mut closing), Ok(Opened::CloseNotify));
}

/// The secrets that follow (RFC 8446 section 7.2), calculated with Python's `hmac`; the RFC's trace has no KeyUpdate.
#[test]
fn the_next_secret_is_derived_from_the_last() {
    let next = "fcdfcc72725aaee48bf64e4fd8b749cdbdbab39d90da0b26e2245ca6ea167207";
    let (mut old, mut server) = (Peer::new(end(Role::Client, 0)), Peer::new(end(Role::Server, 0)));
    let mut update = [0; 64];
    let len = old.parked().wake_write().update_key(&mut update);
    server.receive(&update[..len]).unwrap();
    let (next, other) = (hex(next), hex(SERVER_SECRET));
    let direction = |material| Direction { sequence: 0, material };
    let mut new =
        Parked::new(Suite::tls13(Aead::Aes128Gcm), Role::Client, direction(&next), direction(&other)).unwrap();
    assert_eq!(seal(old.parked(), b"the same"), seal(&mut new, b"the same"));
}
