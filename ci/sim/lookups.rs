//! How often the shard looks a connection's slot up for what a client is sent most often: one short message, echoed.
//!
//! From the completion of the receive over the parser, the service and the queue to the submission of the send, and
//! that send's completion. Who holds a `&mut Conn` hands it on; the bounds see that it stays so.

use crate::stage::{KIND, PLAIN, Stage, settings};
use edgehold::engine::script::{FarEnd, Temper};
use edgehold::shard::slab;
use edgehold_wire::ws::{self, Opcode};

/// Look-ups for an echo whose multishot receive goes on.
const MOST: u32 = 23;
/// Where the receive has ended and is armed anew.
const MOST_ARMED_ANEW: u32 = 24;
/// Turns in which what was read by the client is reported to the shard as sent.
const TURNS: usize = 8;

/// Look-ups of one echo of 64 bytes over WebSocket.
fn lookups_of_an_echo(stage: &mut Stage, end: FarEnd) -> u32 {
    let head = ws::head(Opcode::Binary, true, 64, Some([0; 4]));
    let message = [head.as_bytes(), &[7; 64]].concat();
    stage.shard.ring().say(end, &message);
    let before = slab::lookups();
    let mut received = Vec::new();
    let whole = stage.until(1000, |stage| {
        received.extend(stage.shard.ring().read(end, usize::MAX));
        received.len() == 2 + 64
    });
    assert!(whole && received[2..] == [7; 64], "{received:?}");
    (0..TURNS).for_each(|_| stage.turn());
    slab::lookups() - before
}

/// Those of an echo that comes and goes in one piece, on a connection that has been busy for a while: the scripted ring
/// cuts as it pleases, and a cut echo costs more.
fn lookups_of_a_whole_echo(temper: Temper) -> u32 {
    let mut stage = Stage::new(1, temper, &settings());
    let end = stage.speaks("/echo", PLAIN);
    (0..TURNS).for_each(|_| stage.turn());
    (0..100).map(|_| lookups_of_an_echo(&mut stage, end)).min().expect("some of a hundred are not cut")
}

#[test]
fn an_echo_looks_its_slot_up_a_few_times() {
    let lookups = lookups_of_a_whole_echo(KIND);
    println!("{lookups} look-ups");
    assert!(lookups <= MOST, "{lookups} look-ups for an echo");
}

#[test]
fn nor_does_a_receive_that_is_armed_anew_cost_many() {
    let lookups = lookups_of_a_whole_echo(Temper { end_multishot: 100, ..KIND });
    println!("{lookups} look-ups");
    assert!(lookups <= MOST_ARMED_ANEW, "{lookups} look-ups for an echo");
}
