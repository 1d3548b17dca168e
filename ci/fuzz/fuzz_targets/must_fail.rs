//! The one target that must fail: a planted bug behind three bytes that no seed has. If the fuzzer does not find it,
//! the harness is blind and the silence of the other targets means nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // One comparison after the other: each is a new branch that coverage can lead to.
    if data.first() == Some(&b'B') && data.get(1) == Some(&b'U') && data.get(2) == Some(&b'G') {
        panic!("planted bug");
    }
});
