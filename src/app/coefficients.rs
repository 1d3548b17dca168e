//! What things cost: the one table of measured coefficients, each with the run it comes from.
//!
//! `derive`, `doctor` and `plan` reckon with these and with nothing else. A source is a folder below bench/runs that
//! holds the machine, the command, the raw figures and what they show. After a new run change `value` and `source`
//! here; every sum follows.

use serde::Serialize;

/// Idle connections: memory of the server process and of the kernel.
const IDLE: &str = "bench/runs/2026-11-20-idle";
/// Messages that are answered, or carried to a back end; new connections.
const PEERS: &str = "bench/runs/2026-11-20-peers";
/// Large messages as fast as one core goes.
const BUFFERS: &str = "bench/runs/2026-11-20-buffers";
/// Echo and proxy as fast as one core goes.
const TURNS: &str = "bench/runs/2026-11-30-turns";
/// Memory of what the program keeps; CPU of echo, proxy and broadcast over the rate.
const PLAN: &str = "bench/runs/2026-11-30-plan";
/// Memory of the program itself, with all that asks who clients are.
const GATE: &str = "bench/runs/2026-11-30-gate";
/// Memory of connections over TLS.
const TLS: &str = "bench/runs/2026-11-30-tls-memory";
/// What lies below the product: TLS handshakes and records of rustls, sends to many.
const MICRO: &str = "bench/runs/2026-11-20-micro";

/// The payload of a small message in the runs, in bytes.
pub const SMALL_BYTES: u64 = 64;
/// The payload of a large message in the runs, in bytes.
pub const LARGE_BYTES: u64 = 16 << 10;

/// What one thing costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Coefficient {
    /// What it is called in reports.
    pub name: &'static str,
    /// How much, in `unit`.
    pub value: f64,
    /// What it is counted in.
    pub unit: &'static str,
    /// What is counted.
    pub meaning: &'static str,
    /// The run it was measured in, a folder of the repository.
    pub source: &'static str,
}

impl Coefficient {
    /// The value in whole units, rounded.
    pub const fn whole(&self) -> u64 {
        whole(self.value + 0.5)
    }
}

/// An amount without its fraction. What is below 0, or no number, is 0.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of a float saturates")]
pub const fn whole(amount: f64) -> u64 {
    amount as u64
}

/// The kernel's memory for an idle TCP connection and its entry in a ring's table.
pub const KERNEL_CONNECTION: Coefficient = Coefficient {
    name: "kernel_connection",
    value: 3838.0,
    unit: "B",
    meaning: "kernel memory of an idle TCP connection in a direct descriptor: socket, inode, file and their accounting",
    source: IDLE,
};

/// The kernel's memory for an armed multishot poll.
pub const PARKED_POLL: Coefficient = Coefficient {
    name: "parked_poll",
    value: 290.0,
    unit: "B",
    meaning: "kernel memory of the multishot poll that a parked connection waits on",
    source: IDLE,
};

/// The kernel's memory for an armed multishot receive.
pub const ARMED_RECEIVE: Coefficient = Coefficient {
    name: "armed_receive",
    value: 882.0,
    unit: "B",
    meaning: "kernel memory of the multishot receive of a connection that is not parked, in place of the poll",
    source: IDLE,
};

/// edgehold's own memory for an idle connection.
pub const USER_CONNECTION: Coefficient = Coefficient {
    name: "user_connection",
    value: 133.0,
    unit: "B",
    meaning: "user memory of an idle connection: its slot and its deadline",
    source: IDLE,
};

/// User memory of a TLS session.
pub const TLS_CONNECTION: Coefficient = Coefficient {
    name: "tls_connection",
    value: 160.0,
    unit: "B",
    meaning: "user memory of the record layer of an idle TLS 1.3 connection with AES-256; 32 less with AES-128",
    source: TLS,
};

/// User memory of the expanded keys of a TLS connection.
pub const TLS_AWAKE: Coefficient = Coefficient {
    name: "tls_awake",
    value: 1295.0,
    unit: "B",
    meaning: "user memory of the record layer of a TLS 1.3 connection that is not parked, instead of the idle one's",
    source: TLS,
};

/// The kernel's memory for a small message that was sent and not yet acknowledged.
pub const UNACKNOWLEDGED_MESSAGE: Coefficient = Coefficient {
    name: "unacknowledged_message",
    value: 1072.0,
    unit: "B",
    meaning: "kernel memory of a small message between its sending and its receiver",
    source: MICRO,
};

/// The program before its first client.
pub const PROGRAM: Coefficient = Coefficient {
    name: "program",
    value: 9_690_000.0,
    unit: "B",
    meaning: "resident memory of the program without shards and clients",
    source: GATE,
};

/// A shard before its first client.
pub const SHARD: Coefficient = Coefficient {
    name: "shard",
    value: 416_000.0,
    unit: "B",
    meaning: "resident memory of a shard without clients, its receive buffers not yet used",
    source: PLAN,
};

/// What listening costs beyond being there.
pub const SUBSCRIBER: Coefficient = Coefficient {
    name: "subscriber",
    value: 54.0,
    unit: "B",
    meaning: "resident memory of a client that listens to a channel, beyond that of an idle connection",
    source: PLAN,
};

/// What is kept of a message beside its bytes.
pub const KEPT_MESSAGE: Coefficient = Coefficient {
    name: "kept_message",
    value: 289.0,
    unit: "B",
    meaning: "resident memory of a message that is kept, beside its payload and the forms that it was sent in",
    source: PLAN,
};

/// What is kept of a message in each further form.
pub const KEPT_FORM: Coefficient = Coefficient {
    name: "kept_form",
    value: 108.0,
    unit: "B",
    meaning: "resident memory of one form of a kept message (WebSocket, event stream, lines, …), beside the payload",
    source: PLAN,
};

/// Pages that the kernel's TCP accounting takes for the same.
pub const UNACKNOWLEDGED_PAGES: Coefficient = Coefficient {
    name: "unacknowledged_pages",
    value: 1.0,
    unit: "pages",
    meaning: "pages that net.ipv4.tcp_mem is charged for a small message that its receiver has not taken",
    source: MICRO,
};

/// Microseconds of CPU.
const CPU: &str = "CPU s per million";

/// What a thing costs where a shard does so many of them in a second. The more there are, the more of them each turn of
/// the shard and each call of the kernel carries, and the less each costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Things in a second, of one shard.
    pub per_second: f64,
    /// What each of them costs then.
    pub cost: Coefficient,
}

impl Point {
    /// CPU seconds of a second.
    pub const fn cores(&self) -> f64 {
        self.per_second * self.cost.value / 1e6
    }
}

/// CPU of a small message and its answer, by the messages of a shard in a second.
pub const ECHO: [Point; 7] = [
    Point {
        per_second: 1_000.0,
        cost: Coefficient {
            name: "echo_1k",
            value: 27.9,
            unit: CPU,
            meaning: "CPU of a 64-byte message that is taken, answered and sent, at 1 000 a second",
            source: PLAN,
        },
    },
    Point {
        per_second: 5_000.0,
        cost: Coefficient {
            name: "echo_5k",
            value: 27.7,
            unit: CPU,
            meaning: "CPU of a 64-byte message that is taken, answered and sent, at 5 000 a second",
            source: PLAN,
        },
    },
    Point {
        per_second: 10_000.0,
        cost: Coefficient {
            name: "echo_10k",
            value: 23.2,
            unit: CPU,
            meaning: "CPU of a 64-byte message that is taken, answered and sent, at 10 000 a second",
            source: PLAN,
        },
    },
    Point {
        per_second: 20_000.0,
        cost: Coefficient {
            name: "echo_20k",
            value: 15.1,
            unit: CPU,
            meaning: "CPU of a 64-byte message that is taken, answered and sent, at 20 000 a second",
            source: PLAN,
        },
    },
    Point {
        per_second: 40_000.0,
        cost: Coefficient {
            name: "echo_40k",
            value: 11.6,
            unit: CPU,
            meaning: "CPU of a 64-byte message that is taken, answered and sent, at 40 000 a second",
            source: PLAN,
        },
    },
    Point {
        per_second: 80_000.0,
        cost: Coefficient {
            name: "echo_80k",
            value: 7.8,
            unit: CPU,
            meaning: "CPU of a 64-byte message that is taken, answered and sent, at 80 000 a second",
            source: PLAN,
        },
    },
    Point {
        per_second: 216_000.0,
        cost: Coefficient {
            name: "echo_216k",
            value: 4.61,
            unit: CPU,
            meaning: "CPU of a 64-byte message that is taken, answered and sent, at 216 000 a second",
            source: TURNS,
        },
    },
];

/// CPU of a large message and its answer, as fast as one core goes: beside [`ECHO`]'s last point, what bytes cost.
pub const ECHO_LARGE: Coefficient = Coefficient {
    name: "echo_large",
    value: 6.32,
    unit: CPU,
    meaning: "CPU of a 16 KiB message that is taken, answered and sent, as fast as one core goes",
    source: BUFFERS,
};

/// CPU of a small message to an upstream and of the answer to the client, by the messages of a shard in a second.
pub const PROXY: [Point; 6] = [
    Point {
        per_second: 1_000.0,
        cost: Coefficient {
            name: "proxy_1k",
            value: 40.7,
            unit: CPU,
            meaning: "CPU of a 64-byte message to an upstream, and of its answer, at 1 000 a second",
            source: PLAN,
        },
    },
    Point {
        per_second: 5_000.0,
        cost: Coefficient {
            name: "proxy_5k",
            value: 40.7,
            unit: CPU,
            meaning: "CPU of a 64-byte message to an upstream, and of its answer, at 5 000 a second",
            source: PLAN,
        },
    },
    Point {
        per_second: 10_000.0,
        cost: Coefficient {
            name: "proxy_10k",
            value: 36.9,
            unit: CPU,
            meaning: "CPU of a 64-byte message to an upstream, and of its answer, at 10 000 a second",
            source: PLAN,
        },
    },
    Point {
        per_second: 20_000.0,
        cost: Coefficient {
            name: "proxy_20k",
            value: 25.6,
            unit: CPU,
            meaning: "CPU of a 64-byte message to an upstream, and of its answer, at 20 000 a second",
            source: PLAN,
        },
    },
    Point {
        per_second: 40_000.0,
        cost: Coefficient {
            name: "proxy_40k",
            value: 17.7,
            unit: CPU,
            meaning: "CPU of a 64-byte message to an upstream, and of its answer, at 40 000 a second",
            source: PLAN,
        },
    },
    Point {
        per_second: 106_000.0,
        cost: Coefficient {
            name: "proxy_106k",
            value: 9.44,
            unit: CPU,
            meaning: "CPU of a 64-byte message to an upstream, and of its answer, at 106 000 a second",
            source: TURNS,
        },
    },
];

/// CPU of one delivery of a small message, by the deliveries of a shard in a second.
pub const DELIVERY: [Point; 4] = [
    Point {
        per_second: 10_000.0,
        cost: Coefficient {
            name: "delivery_10k",
            value: 6.9,
            unit: CPU,
            meaning: "CPU of a 64-byte message to one of many subscribers, at 10 000 a second",
            source: PLAN,
        },
    },
    Point {
        per_second: 50_000.0,
        cost: Coefficient {
            name: "delivery_50k",
            value: 6.3,
            unit: CPU,
            meaning: "CPU of a 64-byte message to one of many subscribers, at 50 000 a second",
            source: PLAN,
        },
    },
    Point {
        per_second: 180_000.0,
        cost: Coefficient {
            name: "delivery_180k",
            value: 5.29,
            unit: CPU,
            meaning: "CPU of a 64-byte message to one of many subscribers, at 180 000 a second",
            source: PLAN,
        },
    },
    Point {
        per_second: 710_000.0,
        cost: Coefficient {
            name: "delivery_710k",
            value: 1.35,
            unit: CPU,
            meaning: "CPU of a 64-byte message to one of many subscribers, at 710 000 a second",
            source: PLAN,
        },
    },
];

/// CPU of a new connection.
pub const HANDSHAKE: Coefficient = Coefficient {
    name: "handshake",
    value: 27.7,
    unit: "CPU ms per thousand",
    meaning: "CPU of a new connection: accept, request head, the opening of the WebSocket, at 5 000 a second",
    source: PEERS,
};

/// CPU of a new TLS session.
pub const TLS_HANDSHAKE: Coefficient = Coefficient {
    name: "tls_handshake",
    value: 83.9,
    unit: "CPU ms per thousand",
    meaning: "CPU of a full TLS 1.3 handshake, without resumption",
    source: MICRO,
};

/// CPU that TLS adds to a small message and its answer.
pub const TLS_SMALL: Coefficient = Coefficient {
    name: "tls_small",
    value: 0.5,
    unit: "CPU s per million",
    meaning: "CPU to open a TLS record of 64 bytes and to seal another",
    source: MICRO,
};

/// CPU that TLS adds to a large message and its answer.
pub const TLS_LARGE: Coefficient = Coefficient {
    name: "tls_large",
    value: 4.5,
    unit: "CPU s per million",
    meaning: "CPU to open a TLS record of 16 KiB and to seal another",
    source: MICRO,
};

/// All of them, in the order of a report.
pub const TABLE: [Coefficient; 35] = [
    PROGRAM,
    SHARD,
    USER_CONNECTION,
    SUBSCRIBER,
    KEPT_MESSAGE,
    KEPT_FORM,
    KERNEL_CONNECTION,
    PARKED_POLL,
    ARMED_RECEIVE,
    TLS_CONNECTION,
    TLS_AWAKE,
    UNACKNOWLEDGED_MESSAGE,
    UNACKNOWLEDGED_PAGES,
    ECHO[0].cost,
    ECHO[1].cost,
    ECHO[2].cost,
    ECHO[3].cost,
    ECHO[4].cost,
    ECHO[5].cost,
    ECHO[6].cost,
    ECHO_LARGE,
    PROXY[0].cost,
    PROXY[1].cost,
    PROXY[2].cost,
    PROXY[3].cost,
    PROXY[4].cost,
    PROXY[5].cost,
    DELIVERY[0].cost,
    DELIVERY[1].cost,
    DELIVERY[2].cost,
    DELIVERY[3].cost,
    HANDSHAKE,
    TLS_HANDSHAKE,
    TLS_SMALL,
    TLS_LARGE,
];

/// What an idle, parked connection costs in all: the kernel's memory and edgehold's.
pub const CONNECTION_BYTES: u64 = KERNEL_CONNECTION.whole() + PARKED_POLL.whole() + USER_CONNECTION.whole();

// What a byte costs, and what a connection that is not parked costs more, are differences.
const _: () = assert!(ECHO_LARGE.value > ECHO[6].cost.value && TLS_LARGE.value > TLS_SMALL.value);
const _: () = assert!(ARMED_RECEIVE.value > PARKED_POLL.value && TLS_AWAKE.value > TLS_CONNECTION.value);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::path::Path;

    #[test]
    fn every_source_is_a_committed_run() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let missing: HashSet<&str> = TABLE
            .iter()
            .map(|one| one.source)
            .filter(|source| !root.join(source).join("README.md").is_file())
            .collect();
        assert!(missing.is_empty(), "no README.md in {missing:?}");
    }

    /// More work never takes less, or a plan would advise it.
    #[test]
    fn rates_rise_and_so_does_their_work() {
        for curve in [&ECHO[..], &PROXY, &DELIVERY] {
            let rises = |two: &[Point]| two[0].per_second < two[1].per_second && two[0].cores() <= two[1].cores();
            assert!(curve.windows(2).all(rises), "{curve:?}");
        }
    }

    #[test]
    fn names_differ_and_values_are_amounts() {
        let names: HashSet<&str> = TABLE.iter().map(|one| one.name).collect();
        assert_eq!(names.len(), TABLE.len());
        assert!(TABLE.iter().all(|one| one.value > 0.0 && one.value.is_finite() && !one.meaning.is_empty()));
    }

    #[test]
    fn a_connection_is_the_sum_of_its_parts() {
        let parts = [KERNEL_CONNECTION, PARKED_POLL, USER_CONNECTION];
        assert_eq!(parts.iter().map(Coefficient::whole).sum::<u64>(), CONNECTION_BYTES);
    }
}
