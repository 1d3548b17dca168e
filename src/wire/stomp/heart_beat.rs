//! How often each end lets the other hear of it.

/// What one end says of heart-beats in CONNECT or CONNECTED (STOMP 1.2, Heart-beating), in milliseconds. An end that
/// says nothing says `0,0`, the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeartBeat {
    /// The shortest interval in which it can send something; 0: it cannot.
    pub can: u32,
    /// The interval in which it wants to receive something; 0: it does not.
    pub wants: u32,
}

impl HeartBeat {
    /// From a header, with or without spaces around the numbers; `None`: it is none. A number above `u32::MAX`, seven
    /// weeks, is that.
    pub fn parse(text: &str) -> Option<HeartBeat> {
        let (can, wants) = text.split_once(',')?;
        Some(HeartBeat { can: millis(can)?, wants: millis(wants)? })
    }

    /// What these ends do: `can` is the interval in which we send, `wants` that in which we receive; 0: not at all.
    pub fn agreed(ours: HeartBeat, theirs: HeartBeat) -> HeartBeat {
        HeartBeat { can: interval(ours.can, theirs.wants), wants: interval(theirs.can, ours.wants) }
    }
}

/// The longer one; none where one of the two ends does not take part.
fn interval(can: u32, wants: u32) -> u32 {
    if can == 0 || wants == 0 { 0 } else { can.max(wants) }
}

fn millis(text: &str) -> Option<u32> {
    let digits = text.trim_matches([' ', '\t']);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_numbers_are_read() {
        let read = |text| HeartBeat::parse(text).map(|it| (it.can, it.wants));
        assert_eq!(
            [read("1000, 0"), read("0,0"), read("1,99999999999")],
            [Some((1000, 0)), Some((0, 0)), Some((1, u32::MAX))]
        );
        assert_eq!(["", "1", "1,", ",1", "-1,0", "1,2,3", "+1,2", "a,b"].map(read), [None; 8]);
    }

    /// The sums of the specification.
    #[test]
    fn both_ends_agree_on_the_longer_interval() {
        let beat = |can, wants| HeartBeat { can, wants };
        for (ours, theirs, agreed) in [
            (beat(10, 20), beat(30, 40), beat(40, 30)),
            (beat(0, 20), beat(30, 40), beat(0, 30)),
            (beat(10, 0), beat(30, 40), beat(40, 0)),
            (beat(10, 20), beat(0, 0), beat(0, 0)),
        ] {
            assert_eq!(HeartBeat::agreed(ours, theirs), agreed);
            assert_eq!(HeartBeat::agreed(theirs, ours), beat(agreed.wants, agreed.can));
        }
    }
}
