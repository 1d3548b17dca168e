//! Frames of STOMP in all versions, under wide and narrow limits: the same frames and the same fault, whole, cut as the
//! input says, and byte by byte; what was read is read again from what is written of it.
#![no_main]

#[path = "../../../src/wire/tests/laws/mod.rs"]
mod laws;

mod input;

use edgehold_wire::stomp::{Limits, Version};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let version = Version::ALL[usize::from(input::byte(&mut data) % 3)];
    // Zero is wide.
    let most = |of: u8| if of == 0 { 1 << 20 } else { usize::from(of) };
    let limits = Limits {
        frame_bytes: most(input::byte(&mut data)),
        header_bytes: most(input::byte(&mut data)),
        header_count: most(input::byte(&mut data)),
    };
    let cuts = input::cuts(&mut data);
    laws::stomp::frames(data, &limits, version, cuts);
});
