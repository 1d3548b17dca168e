//! Text and masks in pieces.

mod laws;

use proptest::prelude::*;

/// Begun, broken and whole characters, strung together.
fn near_text() -> impl Strategy<Value = Vec<u8>> {
    let scraps = prop::sample::select(vec![
        &b"a"[..],
        b"plain words ",
        "é".as_bytes(),
        "€".as_bytes(),
        "😀".as_bytes(),
        b"\xed\x9f\xbf",
        b"\xed\xa0\x80",
        b"\xf4\x8f\xbf\xbf",
        b"\xf4\x90",
        b"\xc3",
        b"\xe2\x82",
        b"\xf0\x9f\x98",
        b"\x80",
        b"\xff",
        b"0123456789012345678901234567890123456789012345678901234567890123",
    ]);
    prop::collection::vec(scraps, 0..10).prop_map(|scraps| scraps.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn text_fails_at_the_same_byte_however_cut(bytes in near_text(), cuts in prop::collection::vec(0..70_u8, 1..9)) {
        laws::text(&bytes, &[1]);
        laws::text(&bytes, &cuts);
    }

    #[test]
    fn masks_go_on_over_cuts(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        key in any::<[u8; 4]>(),
        cuts in prop::collection::vec(any::<u8>(), 0..5),
    ) {
        laws::masked(&bytes, key, &cuts);
    }
}
