//! Why the server could not serve, in words for the operator.

use super::derive::raise_memlock;
use crate::control::certificates::Fault;
use crate::control::lists::ListFault;
use crate::engine::finding::Finding;
use std::fmt;
use std::io;

/// Why the server could not serve, in words for the operator.
#[derive(Debug)]
pub enum Failure {
    /// The machine is too small for the configuration.
    Machine(Vec<Finding>),
    /// The kernel lacks something.
    Kernel(Vec<Finding>),
    /// An address cannot be listened on.
    Listen {
        /// The listener's name, or `admin`.
        name: String,
        /// The address.
        address: String,
        /// What the kernel said.
        error: io::Error,
        /// What to change; may be empty.
        remedy: String,
    },
    /// The files of TLS have become bad since the configuration was read.
    Tls {
        /// The listener's name.
        name: String,
        /// What is wrong with them.
        faults: Vec<Fault>,
    },
    /// The same of those towards an upstream.
    UpstreamTls {
        /// As the configuration calls it.
        upstream: String,
        /// What is wrong.
        why: String,
    },
    /// The process cannot become what the configuration says, or could not do its work afterwards.
    Privileges(Vec<Finding>),
    /// A list of networks has become bad since the configuration was read.
    List(ListFault),
    /// A shard could not be started.
    Shard {
        /// Which.
        shard: usize,
        /// Why.
        error: io::Error,
        /// RLIMIT_MEMLOCK with which all shards start, in bytes.
        memlock: u64,
    },
    /// The control thread has failed.
    Control(io::Error),
    /// A shard ended while the server was at work.
    ShardLost,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Machine(shortfalls) => shortfalls
                .iter()
                .try_for_each(|it| writeln!(f, "{} is {}, should be {}: {}", it.what, it.is, it.should, it.command)),
            Failure::Kernel(findings) | Failure::Privileges(findings) => findings
                .iter()
                .try_for_each(|it| writeln!(f, "{}: {} (should be: {}): {}", it.what, it.is, it.should, it.command)),
            Failure::Listen { name, address, error, remedy } => {
                let colon = if remedy.is_empty() { "" } else { ": " };
                writeln!(f, "listener {name}: {address}: {error}{colon}{remedy}")
            }
            Failure::Tls { name, faults } => {
                faults.iter().try_for_each(|fault| writeln!(f, "listener {name}: tls: {fault}"))
            }
            Failure::UpstreamTls { upstream, why } => writeln!(f, "upstream {upstream}: {why}"),
            Failure::List(ListFault { file, words }) => writeln!(f, "{} {words}", file.display()),
            Failure::Shard { shard, error, memlock } => {
                writeln!(f, "shard {shard}: no io_uring: {error}{}", memory_remedy(error, *memlock))
            }
            Failure::Control(error) => writeln!(f, "control thread: {error}"),
            Failure::ShardLost => writeln!(f, "a shard has ended; the log says why"),
        }
    }
}

fn memory_remedy(error: &io::Error, memlock: u64) -> String {
    match error.kind() {
        io::ErrorKind::OutOfMemory => format!(": raise RLIMIT_MEMLOCK, or free memory; {}", raise_memlock(memlock)),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(errno: i32) -> String {
        let error = io::Error::from_raw_os_error(errno);
        Failure::Shard { shard: 3, error, memlock: 1448 << 10 }.to_string()
    }

    #[test]
    fn a_shard_short_of_memory_names_the_limit_and_its_command() {
        let expected = "shard 3: no io_uring: Cannot allocate memory (os error 12): raise RLIMIT_MEMLOCK, or free \
                        memory; as root: ulimit -l 1448 (under systemd: LimitMEMLOCK=1448K)\n";
        assert_eq!(words(libc::ENOMEM), expected);
        assert_eq!(words(libc::EMFILE), "shard 3: no io_uring: Too many open files (os error 24)\n");
    }
}
