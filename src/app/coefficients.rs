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
/// What lies below the product: TLS sessions, sends to many.
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
        (self.value + 0.5) as u64
    }
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
    value: 7464.0,
    unit: "B",
    meaning: "user memory of an idle TLS 1.3 session of rustls",
    source: MICRO,
};

/// The kernel's memory for a small message that was sent and not yet acknowledged.
pub const UNACKNOWLEDGED_MESSAGE: Coefficient = Coefficient {
    name: "unacknowledged_message",
    value: 1072.0,
    unit: "B",
    meaning: "kernel memory of a small message between its sending and its receiver",
    source: MICRO,
};

/// Pages that the kernel's TCP accounting takes for the same.
pub const UNACKNOWLEDGED_PAGES: Coefficient = Coefficient {
    name: "unacknowledged_pages",
    value: 1.0,
    unit: "pages",
    meaning: "pages that net.ipv4.tcp_mem is charged for a small message that its receiver has not taken",
    source: MICRO,
};

/// CPU of a small message and its answer.
pub const ECHO_SMALL: Coefficient = Coefficient {
    name: "echo_small",
    value: 11.0,
    unit: "CPU s per million",
    meaning: "CPU of a 64-byte message that is taken, answered and sent, at 40 000 a second",
    source: PEERS,
};

/// CPU of a large message and its answer.
pub const ECHO_LARGE: Coefficient = Coefficient {
    name: "echo_large",
    value: 23.5,
    unit: "CPU s per million",
    meaning: "CPU of a 16 KiB message that is taken, answered and sent, at 10 000 a second",
    source: PEERS,
};

/// CPU of a small message to an upstream and of the answer to the client.
pub const PROXY_SMALL: Coefficient = Coefficient {
    name: "proxy_small",
    value: 28.1,
    unit: "CPU s per million",
    meaning: "CPU of a 64-byte message that is carried to an upstream, and of its answer, at 10 000 a second",
    source: PEERS,
};

/// CPU of one delivery of a small message.
pub const DELIVERY_SMALL: Coefficient = Coefficient {
    name: "delivery_small",
    value: 4.7,
    unit: "CPU s per million",
    meaning: "CPU of a bare send of 64 bytes to one of many receivers",
    source: MICRO,
};

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
pub const TABLE: [Coefficient; 15] = [
    USER_CONNECTION,
    KERNEL_CONNECTION,
    PARKED_POLL,
    ARMED_RECEIVE,
    TLS_CONNECTION,
    UNACKNOWLEDGED_MESSAGE,
    UNACKNOWLEDGED_PAGES,
    ECHO_SMALL,
    ECHO_LARGE,
    PROXY_SMALL,
    DELIVERY_SMALL,
    HANDSHAKE,
    TLS_HANDSHAKE,
    TLS_SMALL,
    TLS_LARGE,
];

/// What an idle, parked connection costs in all: the kernel's memory and edgehold's.
pub const CONNECTION_BYTES: u64 = KERNEL_CONNECTION.whole() + PARKED_POLL.whole() + USER_CONNECTION.whole();

// What a byte costs, and what a connection that is not parked costs more, are differences.
const _: () = assert!(ECHO_LARGE.value > ECHO_SMALL.value && TLS_LARGE.value > TLS_SMALL.value);
const _: () = assert!(ARMED_RECEIVE.value > PARKED_POLL.value);

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
