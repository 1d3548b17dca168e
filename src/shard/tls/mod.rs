//! TLS between the kernel and the readers, and between the queues and the kernel (RFC 8446, RFC 5246).
//!
//! ```text
//! recv ─▶ received ─▶ kept, until its turn has come ─▶ shake ─▶ its flight, queued as it is
//!                 └─▶ records ─open─▶ read::received
//! queue ─▶ seal ─▶ ciphertext at the front of the queue ─▶ send
//! ```
//!
//! A record is opened where the kernel wrote it; one that was cut waits in the side table and is opened when it is
//! whole. What is queued stays plaintext until it is sent: then as much as one send takes is sealed and stands in front
//! of the queue. So everything between is the same for connections with and without TLS.

mod signer;
mod table;
mod under_way;

use super::batches::Batch;
use super::conn::{Conn, Flags, Held, Hold, Sending, State, StateEvent, WriteEnd};
use super::core::{Chain, Core, list};
use super::outbox::Unsealed;
use super::read;
use super::service::Services;
use super::slab::Handle;
use super::upstream::connected;
use crate::mesh::x509::ClientCertificate;
use crate::mesh::{Cause, HandshakeStage};
use edgehold_wire::tls::{Established, Failure, Fault, MAX_CONTROL, MAX_RECORD, Opened, Reason, Refused, WriteHalf};
pub use signer::Signer;
use signer::{Fed, Taken};
pub use table::TlsTable;

/// What a step of a handshake costs the turn that has an answer or is the last: some 50 microseconds, much of it one
/// signature.
const HANDSHAKE: u64 = 40_000;

/// The same where an RSA key has signed: a millisecond, with a long key several. It is more than a turn has, so that
/// there is one of these a turn at most.
const SLOW_HANDSHAKE: u64 = 1_000_000;

/// What a record costs the turn, beside its bytes, or a piece of a hello that is not whole.
const RECORD: u64 = 200;

/// What a client is told that speaks HTTP where TLS is expected. Nothing of TLS was sent, so it can be read.
const PLAIN_HTTP: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 57\r\n\
    Connection: close\r\n\r\n400 this port speaks HTTPS; the request came without TLS\n";

/// What a client is told that finds no slot: the fatal alert internal_error (RFC 8446 section 6.2), in clear text as
/// all is before a handshake.
const NO_ROOM: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];

/// Bytes of a connection with TLS were received. What came is counted, whatever it held.
pub(super) fn received<S: Services>(core: &mut Core, service: &mut S, who: Handle, bytes: &mut [u8]) {
    let is_upstream = core.slab[who.slot].is_upstream();
    let counted = *counter(core, is_upstream) + bytes.len() as u64;
    take_in(core, service, who, bytes);
    *counter(core, is_upstream) = counted;
}

fn counter(core: &mut Core, is_upstream: bool) -> &mut u64 {
    if is_upstream { &mut core.counters.upstream_bytes_in } else { &mut core.counters.bytes_in }
}

fn take_in<S: Services>(core: &mut Core, service: &mut S, who: Handle, bytes: &mut [u8]) {
    if core.tls.is_handshaking(who.slot) {
        if core.slab[who.slot].is_upstream() {
            return answer_upstream(core, service, who, bytes);
        }
        return keep_for_handshake(core, who.slot, bytes);
    }
    if core.tls.is_read_closed(who.slot) {
        return;
    }
    if !core.slab[who.slot].read.is_parked() {
        core.tls.wake(who.slot);
    }
    if core.side.cut_record(core.slab[who.slot].side) > 0 {
        join(core, service, who, bytes);
    } else if let Some(used) = records(core, service, who, bytes) {
        keep(core, who, &bytes[used..]);
    }
}

// ---- the handshake ----

/// A client has come to a listener with TLS.
pub(super) fn greet(core: &mut Core, who: Handle) {
    core.tls.expect(who.slot, core.slab[who.slot].origin);
}

/// A client has come to a full or stopping shard: it is sent an alert, from a spare slot.
pub(super) fn turn_away(core: &mut Core, who: Handle) {
    let conn = &mut core.slab[who.slot];
    conn.flags.insert(Flags::SPARE);
    conn.set_cause(Cause::Refused);
    queue_sealed(core, who, &NO_ROOM);
    core.finish(who);
}

/// The connect to an upstream with TLS has completed.
pub(super) fn say_hello<S: Services>(core: &mut Core, service: &mut S, who: Handle) {
    core.slab[who.slot].step(StateEvent::Greeted);
    answer_upstream(core, service, who, b"");
}

/// Handshakes with upstreams are few and do not wait.
fn answer_upstream<S: Services>(core: &mut Core, service: &mut S, who: Handle, bytes: &[u8]) {
    core.slab[who.slot].last_received = core.clock.now();
    let mut flight = std::mem::take(&mut core.flight);
    let fed = core.tls.feed_call(who.slot, bytes, &mut flight);
    core.work.add(if matches!(fed, Ok(None)) && flight.is_empty() { RECORD } else { HANDSHAKE });
    went(core, service, who, fed, flight);
}

/// What has come waits until the handshake's turn has come; meanwhile nothing more is received. Where there is no room
/// for all, some give way.
fn keep_for_handshake(core: &mut Core, slot: u32, bytes: &[u8]) {
    core.slab[slot].last_received = core.clock.now();
    core.work.add(RECORD);
    if core.tls.keep(slot, bytes) {
        core.slab[slot].hold.insert(Hold::HANDSHAKE);
        core.watch(slot);
    }
    make_room(core);
}

fn make_room(core: &mut Core) {
    while let Some((slot, stage)) = core.tls.excess() {
        displace(core, slot, stage);
    }
}

/// Ends a handshake to make room for others. What it holds is given back at once.
fn displace(core: &mut Core, slot: u32, stage: HandshakeStage) {
    core.counters.tls_displaced[stage as usize] += 1;
    core.tls.drop_session(slot);
    let who = core.slab.handle(slot);
    let peer = core.slab[slot].peer.address();
    tracing::debug!(%peer, stage = stage.word(), "a TLS handshake gives way to others (tls_handshake_bytes)");
    core.cut(who, Cause::Overload);
}

/// The turn of a connection's handshake has come.
pub(super) fn shake<S: Services>(core: &mut Core, service: &mut S, slot: u32) {
    let who = core.slab.handle(slot);
    if core.slab[slot].state != State::Handshake {
        // It has ended while it waited.
        return core.tls.drop_session(slot);
    }
    match core.tls.hand_over(who) {
        // Meanwhile nothing is received.
        Some(Ok(())) => return core.work.add(RECORD),
        Some(Err(failure)) => return failed(core, who, &failure),
        None => {}
    }
    lift(core, slot);
    let mut flight = std::mem::take(&mut core.flight);
    let fed = core.tls.feed(slot, &mut flight);
    core.work.add(match fed {
        Ok(None) if flight.is_empty() => RECORD,
        Ok(None) if core.tls.has_signed_slowly(slot) => SLOW_HANDSHAKE,
        _ => HANDSHAKE,
    });
    went(core, service, who, fed, flight);
}

/// The signer has made a step. Its client may have left meanwhile, and another have its slot.
pub(super) fn returned<S: Services>(core: &mut Core, service: &mut S, taken: Taken) {
    let Taken { who, number, handshake, fed, flight } = taken;
    core.work.add(RECORD);
    let waits = core.slab.get(who).is_some_and(|conn| conn.state == State::Handshake);
    if waits && core.tls.give_back(who.slot, number, handshake, &fed) {
        lift(core, who.slot);
        went(core, service, who, fed, flight);
    }
}

/// More is received.
fn lift(core: &mut Core, slot: u32) {
    core.slab[slot].hold.remove(Hold::HANDSHAKE);
    core.list(slot);
}

/// What has come of a step of a handshake, and what is to be sent for it.
fn went<S: Services>(core: &mut Core, service: &mut S, who: Handle, fed: Fed, mut flight: Vec<u8>) {
    queue_sealed(core, who, &flight);
    flight.clear();
    core.flight = flight;
    match fed {
        Ok(None) => make_room(core),
        Ok(Some(established)) => secured(core, service, who, established),
        Err(failure) => failed(core, who, &failure),
    }
}

fn secured<S: Services>(core: &mut Core, service: &mut S, who: Handle, established: Established) {
    let now = core.clock.now();
    let Some(conn) = core.slab.get_mut(who).filter(|conn| conn.state == State::Handshake) else { return };
    let (origin, resumed) = (usize::from(conn.origin), usize::from(established.resumed));
    core.tls.establish(who.slot, established.parked);
    if conn.is_upstream() {
        core.counters.upstreams[origin].tls_handshakes[resumed] += 1;
        core.tls.upstream(origin).inspect(|tls| tls.succeeded());
        connected(core, service, who);
    } else {
        conn.step(StateEvent::Secured);
        conn.since = now;
        core.counters.tls_handshakes[resumed] += 1;
        core.watch(who.slot);
        if let Some(own) = established.certificates.first() {
            identify(core, who.slot, own, established.resumed);
        }
    }
    if core.slab[who.slot].reads() {
        // It was counted when it came.
        let is_upstream = core.slab[who.slot].is_upstream();
        let (counted, mut leftover) = (*counter(core, is_upstream), established.leftover);
        take_in(core, service, who, &mut leftover);
        *counter(core, is_upstream) = counted;
    }
}

/// Keeps whom the client's certificate names, which was verified. Of a session that is resumed it is the one that was
/// shown when the session began. One that cannot be read names nobody: the client is served as one without.
fn identify(core: &mut Core, slot: u32, der: &[u8], resumed: bool) {
    let certificate = ClientCertificate::of(der);
    core.counters.tls_client_names_cut += u64::from(certificate.as_ref().is_none_or(|it| !it.is_whole));
    let Some(certificate) = certificate else { return };
    let conn = &mut core.slab[slot];
    tracing::debug!(
        peer = %conn.peer.address(),
        subject = &*certificate.subject,
        names = certificate.names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        resumed,
        "a client has shown a certificate"
    );
    core.side.make(&mut conn.side).certificate = Some(Box::new(certificate));
}

fn failed(core: &mut Core, who: Handle, failure: &Failure) {
    let Some(conn) = core.slab.get_mut(who) else { return };
    conn.set_cause(Cause::Tls);
    let (peer, reason) = (conn.peer.address(), failure.reason);
    if conn.is_upstream() {
        let number = usize::from(conn.origin);
        core.counters.upstreams[number].tls_failures += 1;
        core.tls.upstream(number).inspect(|tls| tls.failed(failure));
    } else {
        core.counters.tls_failures[reason.number()] += 1;
        tracing::debug!(%peer, reason = reason.word(), detail = ?failure.detail, "a TLS handshake has failed");
    }
    if reason == Reason::PlainHttp {
        queue_sealed(core, who, PLAIN_HTTP);
    }
    core.finish(who);
}

// ---- records ----

/// Opens the whole records at the front of these bytes. How many bytes they have: all of them behind close_notify and
/// behind a fault, where nothing is read. `None`: the connection reads no more.
fn records<S: Services>(core: &mut Core, service: &mut S, who: Handle, bytes: &mut [u8]) -> Option<usize> {
    let mut used = 0;
    while !core.tls.is_read_closed(who.slot) {
        let rest = &mut bytes[used..];
        match core.tls.record_len(who.slot, rest) {
            Ok(Some(len)) if len <= rest.len() => {
                record(core, service, who, &mut rest[..len]);
                used += len;
            }
            Ok(_) => return Some(used),
            Err(fault) => fail(core, who, fault),
        }
        core.slab.get(who).filter(|conn| conn.reads())?;
    }
    Some(bytes.len())
}

fn record<S: Services>(core: &mut Core, service: &mut S, who: Handle, record: &mut [u8]) {
    core.work.add(RECORD);
    match core.tls.open(who.slot, record) {
        Ok(Opened::Data(plain)) => read::received(core, service, who, plain),
        Ok(Opened::Nothing | Opened::Warning(_)) => {
            core.slab[who.slot].last_received = core.clock.now();
            if core.tls.owes(who.slot) {
                core.list(who.slot);
            }
        }
        Ok(Opened::CloseNotify) => read::ended(core, service, who.slot),
        Err(fault) => fail(core, who, fault),
    }
}

/// A record that was cut is opened when its rest has come: all that has come since is put behind it.
fn join<S: Services>(core: &mut Core, service: &mut S, who: Handle, bytes: &[u8]) {
    if !keep(core, who, bytes) {
        return;
    }
    let mut joined = std::mem::take(&mut core.joined);
    while let Some(cold) = core.side.get(core.slab[who.slot].side) {
        core.pool.read_draft_front(&cold.cut_record, MAX_RECORD, &mut joined);
        let used = records(core, service, who, &mut joined);
        joined.clear();
        let Some(used) = used.filter(|&used| used > 0) else { break };
        let conn = &mut core.slab[who.slot];
        if let Some(cold) = core.side.get_mut(conn.side) {
            core.pool.skip_draft(&mut cold.cut_record, used);
        }
        core.side.tidy(&mut conn.side);
        if core.side.cut_record(conn.side) == 0 {
            break;
        }
    }
    core.joined = joined;
}

/// Keeps the beginning of a record. `false`: there is no memory for it, and the connection is ending.
fn keep(core: &mut Core, who: Handle, cut: &[u8]) -> bool {
    let kept = cut.is_empty() || core.put(who, Chain::CutRecord, [cut, b""]).is_ok();
    if !kept {
        core.overloaded(who);
    }
    kept
}

/// The peer has broken the protocol: it is sent the alert behind what is queued, and what still comes is thrown away.
fn fail(core: &mut Core, who: Handle, fault: Fault) {
    core.counters.tls_faults += 1;
    let Some(conn) = core.slab.get_mut(who) else { return };
    tracing::debug!(peer = %conn.peer.address(), fault = fault.word(), "a TLS record is not what it should be");
    if let (Fault::Alert(alert), true) = (fault, conn.is_upstream()) {
        core.tls.upstream(usize::from(conn.origin)).inspect(|tls| tls.refused(alert));
    }
    conn.set_cause(Cause::Tls);
    match fault.alert() {
        Some(alert) => {
            core.side.make(&mut conn.side).alert = Some(alert);
            core.finish(who);
        }
        None => core.cut(who, Cause::Tls),
    }
}

/// The peer's FIN. Behind close_notify it says nothing new. Without that, what an upstream has sent may have been cut
/// short by anybody (RFC 8446 section 6.1), and must not pass for the whole; but many answer our close_notify by no
/// more than FIN.
pub(super) fn ended<S: Services>(core: &mut Core, service: &mut S, who: Handle) {
    let conn = &core.slab[who.slot];
    let goes_on = conn.state != State::Closing && conn.write == WriteEnd::Open;
    match conn.read.has_ended() {
        true => {}
        false if conn.is_upstream() && goes_on => lost(core, who, Cause::UpstreamLost),
        false => read::ended(core, service, who.slot),
    }
}

/// The connection is gone without a word of TLS: where that was an upstream in its handshake, the operator hears so.
pub(super) fn lost(core: &mut Core, who: Handle, cause: Cause) {
    let conn = &core.slab[who.slot];
    if conn.is_upstream() && conn.state == State::Handshake {
        let number = usize::from(conn.origin);
        core.counters.upstreams[number].tls_failures += 1;
        core.tls.upstream(number).inspect(|tls| tls.gone());
    }
    core.cut(who, cause);
}

// ---- what is sent ----

/// Before a send: what is queued is sealed as far as one send takes. Where nothing is queued, the peer is sent what it
/// is owed, or the end.
#[expect(clippy::redundant_closure_for_method_calls, reason = "the method is not for every lifetime")]
pub(super) fn seal(core: &mut Core, slot: u32) {
    let conn = &mut core.slab[slot];
    if conn.read.is_parked() {
        core.tls.park(slot);
    }
    if conn.held.contains(Held::SEND) || matches!(conn.sending, Sending::Sealed(_)) {
        return;
    }
    if conn.out.pending() > 0 {
        seal_queue(core, slot);
    } else if core.tls.owes(slot) {
        seal_control(core, slot, |half, out| half.answer(out));
    } else if conn.write == WriteEnd::FinWanted && !core.tls.is_write_closed(slot) {
        let alert = core.side.get(conn.side).and_then(|cold| cold.alert);
        seal_control(core, slot, |half, out| match alert {
            Some(alert) => half.fail(alert, out),
            None => half.close_notify(out),
        });
    }
}

fn seal_queue(core: &mut Core, slot: u32) {
    let Core { slab, pool, tls, .. } = core;
    let conn = &mut slab[slot];
    let Some(mut writer) = tls.writer(slot) else { return };
    let sealed = pool.seal_front(&mut conn.out, |plain, out| writer.seal(plain, out));
    sealed_or_cut(core, slot, sealed);
}

/// Seals a batch straight from the messages that others are sent as well.
pub(super) fn seal_batch(core: &mut Core, slot: u32, batch: &Batch) {
    let Core { slab, pool, tls, .. } = core;
    let conn = &mut slab[slot];
    let Some(mut writer) = tls.writer(slot) else { return };
    let sealed = pool.append_sealed(&mut conn.out, batch.pieces(), |plain, out| writer.seal(plain, out));
    sealed_or_cut(core, slot, sealed);
}

/// Records cannot be left out: a connection that cannot seal what it is to be sent is over. One whose key may not be
/// used any more (TLS 1.2) ends with close_notify, which still may.
fn sealed_or_cut(core: &mut Core, slot: u32, sealed: Result<u32, Unsealed>) {
    let conn = &mut core.slab[slot];
    let who = Handle::of(slot, conn);
    match sealed {
        Ok(len) => conn.sending = Sending::Sealed(len),
        Err(Unsealed::Exhausted) => core.cut(who, Cause::Overload),
        Err(Unsealed::Refused(Refused::Closed)) => core.cut(who, Cause::Tls),
        Err(Unsealed::Refused(Refused::Exhausted)) => {
            tracing::debug!(peer = %conn.peer.address(), "a key of TLS 1.2 has served as long as it may");
            core.pool.clear(&mut conn.out);
            conn.set_cause(Cause::Tls);
            core.finish(who);
            core.list(slot);
        }
    }
}

fn seal_control(core: &mut Core, slot: u32, seal: impl FnOnce(&mut WriteHalf<'_>, &mut [u8]) -> usize) {
    let mut records = [0; 2 * MAX_CONTROL];
    let Some(mut writer) = core.tls.writer(slot) else { return };
    let len = seal(&mut writer, &mut records);
    let who = Handle::of(slot, &core.slab[slot]);
    queue_sealed(core, who, &records[..len]);
}

/// Queues bytes that go out as they are. Nothing but such bytes may be queued in front of them.
pub(super) fn queue_sealed(core: &mut Core, who: Handle, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    if core.put(who, Chain::Urgent, [bytes, b""]).is_err() {
        return core.cut(who, Cause::Overload);
    }
    let conn = &mut core.slab[who.slot];
    conn.sending = Sending::Sealed(ciphertext(conn) + bytes.len() as u32);
    list(&mut core.listed, conn, who.slot);
}

/// Bytes of ciphertext at the front of a queue.
fn ciphertext(conn: &Conn) -> u32 {
    if let Sending::Sealed(len) = conn.sending { len } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{Waker, mailbox};
    use crate::shard::service::{Deflate, RouteLimits, ShardSettings};
    use crate::shard::shares::Shares;
    use edgehold_wire::http1::HeadLimits;
    use edgehold_wire::tls::{Aead, Direction, Parked, Role, Suite};
    use std::sync::Arc;
    use std::time::Duration;

    const LIMITS: RouteLimits = RouteLimits {
        head: HeadLimits { head_bytes: 4096, head_count: 32, target_bytes: 1024 },
        message_bytes: 1 << 20,
        head_ticks: 40,
        idle_ticks: 400,
        auth_ticks: 40,
        shares: Shares { connections: None, each: None },
        expired_code: edgehold_wire::ws::CloseCode::POLICY_VIOLATION,
        keep_alive_ticks: 400,
        close_ticks: 40,
        max_pending: 1 << 16,
        connection_bytes: 1 << 20,
        deflate: Deflate { on: false, takeover: false, min_bytes: 0 },
    };

    /// A shard's core with one connection in `Head` under TLS 1.2, whose next record has this number.
    fn core(sequence: u64) -> (Core, Handle) {
        let settings = ShardSettings {
            shard: 0,
            slots: 2,
            spare_slots: 0,
            accepts_in_flight: 0,
            listeners: 1,
            addresses: Vec::new(),
            bare: Vec::new(),
            tls: Vec::new(),
            upstreams: 0,
            limits: vec![LIMITS],
            outbox_bytes: 1 << 20,
            deflate_window_bytes: 0,
            tls_handshake_bytes: 1 << 20,
            tls_handshake_timeout: Duration::from_secs(10),
            turn_events: 64,
            park_after: Duration::ZERO,
        };
        let (to_control, _) = mailbox(1, Arc::new(Waker::new().unwrap()));
        let mut core = Core::new(&settings, to_control);
        core.tls.reserve();
        let slot = core.slab.take().unwrap();
        core.slab[slot].flags.insert(Flags::TLS);
        for event in [StateEvent::Reserve, StateEvent::Greeted, StateEvent::Secured] {
            core.slab[slot].step(event);
        }
        let suite = Suite::tls12(Aead::Aes128Gcm);
        let direction = Direction { sequence, material: &vec![7; suite.material_len()] };
        core.tls.establish(slot, Parked::new(suite, Role::Server, direction, direction).unwrap());
        let who = core.slab.handle(slot);
        (core, who)
    }

    #[test]
    fn a_key_that_has_served_its_time_ends_its_connection_with_close_notify() {
        for (sequence, is_over) in [(0, false), (1 << 24, true)] {
            let (mut core, who) = core(sequence);
            core.pool.append(&mut core.slab[who.slot].out, [b"plaintext", b""]).unwrap();
            seal(&mut core, who.slot);
            let conn = &mut core.slab[who.slot];
            assert_eq!((conn.state == State::Closing, conn.out.pending() == 0), (is_over, is_over));
            assert_eq!(matches!(conn.sending, Sending::Sealed(1..)), !is_over);
            if is_over {
                conn.write = WriteEnd::FinWanted;
                seal(&mut core, who.slot);
                assert!(core.tls.is_write_closed(who.slot), "close_notify was sealed");
                assert!(ciphertext(&core.slab[who.slot]) as usize == core.slab[who.slot].out.pending());
            }
            core.pool.clear(&mut core.slab[who.slot].out);
        }
    }
}
