//! Which features of io_uring this kernel has, tried before a shard starts, and what an operator can do about those
//! that are missing.
//!
//! [`Kernel::look`] gathers facts, [`Kernel::findings`] judges them: a test can judge a kernel that lacks a feature.

use super::finding::{Finding, Verdict};
use io_uring::{IoUring, Probe, opcode};
use std::io;

/// The oldest kernel with everything that a shard needs: DEFER_TASKRUN came with 6.1.
pub const OLDEST: (u32, u32) = (6, 1);

const DISABLED: &str = "/proc/sys/kernel/io_uring_disabled";

/// For ENOMEM: from Linux 6.14 on, rings and registered memory count towards the user's RLIMIT_MEMLOCK.
const RAISE_MEMLOCK: &str = "raise RLIMIT_MEMLOCK, or free memory; as root: ulimit -l unlimited \
     (under systemd: LimitMEMLOCK=infinity); `edgehold doctor` names the least";

/// What is known of a kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Major and minor version, from uname(2).
    pub version: (u32, u32),
    /// `kernel.io_uring_disabled`; `None` before Linux 6.6, which does not have it.
    pub disabled: Option<u32>,
    /// What io_uring_setup(2) without flags returns; else its errno.
    pub plain_ring: Result<(), i32>,
    /// What it returns with SINGLE_ISSUER and DEFER_TASKRUN; else its errno.
    pub deferred_ring: Result<(), i32>,
    /// What registering a provided buffer ring returns; else its errno.
    pub buffer_ring: Result<(), i32>,
    /// Operations that a shard uses, by name, and whether the kernel has them (IORING_REGISTER_PROBE).
    pub operations: Vec<(&'static str, bool)>,
}

impl Kernel {
    /// Tries the running kernel. Builds and drops two small rings; does not fail.
    pub fn look() -> Kernel {
        let plain = IoUring::new(4);
        let deferred: io::Result<IoUring> = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(4);
        Kernel {
            version: version(),
            disabled: std::fs::read_to_string(DISABLED).ok().and_then(|it| it.trim().parse().ok()),
            operations: plain.as_ref().map(operations).unwrap_or_default(),
            // Without a ring to lend to, the reason is the ring's.
            buffer_ring: deferred.as_ref().map_err(errno).and_then(buffer_ring),
            plain_ring: outcome(&plain),
            deferred_ring: outcome(&deferred),
        }
    }

    /// All findings, in the order in which an operator would look: version, sysctl, then what was tried.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = vec![self.judge_version(), self.judge_switch()];
        findings.extend(self.trials());
        findings
    }

    /// The findings about what was tried, not read.
    pub fn trials(&self) -> Vec<Finding> {
        let mut trials = vec![self.judge_ring()];
        if self.plain_ring.is_ok() {
            trials.extend([self.judge_deferred(), self.judge_buffers(), self.judge_operations()]);
        }
        trials
    }

    /// The findings with which the server cannot run; empty where it can.
    pub fn refusals(&self) -> Vec<Finding> {
        self.findings().into_iter().filter(Finding::fails).collect()
    }

    fn judge_version(&self) -> Finding {
        let (major, minor) = self.version;
        let remedy = if self.version < OLDEST { "boot a newer kernel, such as that of Debian 12" } else { "" };
        finding("kernel version", format!("{major}.{minor}"), "6.1 or newer", remedy)
    }

    fn judge_switch(&self) -> Finding {
        let is = self.disabled.map_or("not there (always on)".into(), |it| it.to_string());
        let remedy = match self.disabled {
            Some(2) => "sysctl -w kernel.io_uring_disabled=0",
            Some(1) if self.plain_ring.is_err() => {
                "sysctl -w kernel.io_uring_disabled=0, or put edgehold's group into kernel.io_uring_group"
            }
            _ => "",
        };
        finding("kernel.io_uring_disabled", is, "0", remedy)
    }

    fn judge_ring(&self) -> Finding {
        let remedy = match self.plain_ring {
            Ok(()) => "",
            Err(libc::ENOSYS) => "run a kernel built with CONFIG_IO_URING, or lift the seccomp profile that hides it",
            Err(libc::EPERM | libc::EACCES) => {
                "allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp profile"
            }
            Err(libc::ENOMEM) => RAISE_MEMLOCK,
            Err(_) => "see the error's name in errno(3)",
        };
        finding("io_uring_setup", in_words(self.plain_ring), "works", remedy)
    }

    fn judge_deferred(&self) -> Finding {
        finding("io_uring DEFER_TASKRUN", in_words(self.deferred_ring), "works (Linux 6.1)", newer(self.deferred_ring))
    }

    fn judge_buffers(&self) -> Finding {
        let should = "works (Linux 5.19)";
        finding("io_uring provided buffer rings", in_words(self.buffer_ring), should, newer(self.buffer_ring))
    }

    fn judge_operations(&self) -> Finding {
        let missing: Vec<&str> = self.operations.iter().filter(|it| !it.1).map(|it| it.0).collect();
        let (is, remedy) = if missing.is_empty() {
            (format!("all {} known", self.operations.len()), "")
        } else {
            (format!("missing: {}", missing.join(", ")), "boot Linux 6.1 or newer, or lift the restriction on io_uring")
        };
        finding("io_uring operations", is, "all known", remedy)
    }
}

/// The remedy for what every kernel from [`OLDEST`] on has.
fn newer(outcome: Result<(), i32>) -> &'static str {
    match outcome {
        Ok(()) => "",
        Err(libc::ENOMEM) => RAISE_MEMLOCK,
        Err(_) => "boot Linux 6.1 or newer",
    }
}

/// What has a remedy stands in the way.
fn finding(what: &str, is: String, should: &str, remedy: &str) -> Finding {
    Finding::new(what, is, should.into(), Verdict::insist(remedy.is_empty()), remedy.into())
}

fn outcome(ring: &io::Result<IoUring>) -> Result<(), i32> {
    ring.as_ref().map(|_| ()).map_err(errno)
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

fn in_words(outcome: Result<(), i32>) -> String {
    outcome.map_or_else(|errno| io::Error::from_raw_os_error(errno).to_string(), |()| "works".into())
}

/// Major and minor version from the release string ("6.1.0-32-amd64").
pub fn version() -> (u32, u32) {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|it| it.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn operations(ring: &IoUring) -> Vec<(&'static str, bool)> {
    let mut probe = Probe::new();
    let answered = ring.submitter().register_probe(&mut probe).is_ok();
    let known = |code| answered && probe.is_supported(code);
    vec![
        ("ACCEPT", known(opcode::Accept::CODE)),
        ("CONNECT", known(opcode::Connect::CODE)),
        ("RECV", known(opcode::Recv::CODE)),
        ("SEND", known(opcode::Send::CODE)),
        ("SENDMSG", known(opcode::SendMsg::CODE)),
        ("POLL_ADD", known(opcode::PollAdd::CODE)),
        ("ASYNC_CANCEL", known(opcode::AsyncCancel::CODE)),
        ("SHUTDOWN", known(opcode::Shutdown::CODE)),
        ("CLOSE", known(opcode::Close::CODE)),
        ("TIMEOUT", known(opcode::Timeout::CODE)),
        ("OPENAT2", known(opcode::OpenAt2::CODE)),
        ("STATX", known(opcode::Statx::CODE)),
        ("READV", known(opcode::Readv::CODE)),
    ]
}

fn buffer_ring(ring: &IoUring) -> Result<(), i32> {
    super::buffers::try_lending(ring).map_err(|error| errno(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel with everything, whatever this one is.
    fn whole() -> Kernel {
        Kernel {
            version: (6, 12),
            disabled: Some(0),
            plain_ring: Ok(()),
            deferred_ring: Ok(()),
            buffer_ring: Ok(()),
            operations: vec![("ACCEPT", true), ("SHUTDOWN", true)],
        }
    }

    fn refusal(kernel: &Kernel) -> String {
        let refusals = kernel.refusals();
        assert!(!refusals.is_empty(), "nothing was refused: {kernel:?}");
        refusals.iter().map(|it| format!("{}: {} -> {}\n", it.what, it.is, it.command)).collect()
    }

    #[test]
    fn nothing_hidden_nothing_refused() {
        assert_eq!(whole().refusals(), []);
    }

    #[test]
    fn each_hidden_feature_is_refused_by_name_with_a_remedy() {
        assert!(refusal(&Kernel { version: (5, 15), ..whole() }).contains("kernel version: 5.15"));
        assert!(refusal(&Kernel { deferred_ring: Err(libc::EINVAL), ..whole() }).contains("DEFER_TASKRUN"));
        assert!(refusal(&Kernel { buffer_ring: Err(libc::EINVAL), ..whole() }).contains("provided buffer rings"));
        let hidden = vec![("ACCEPT", true), ("SHUTDOWN", false)];
        assert!(refusal(&Kernel { operations: hidden, ..whole() }).contains("missing: SHUTDOWN"));
    }

    #[test]
    fn a_switched_off_ring_names_the_sysctl_and_a_seccomp_profile_is_named() {
        let off = Kernel { disabled: Some(2), plain_ring: Err(libc::EPERM), ..whole() };
        assert!(refusal(&off).contains("sysctl -w kernel.io_uring_disabled=0"));
        assert!(refusal(&Kernel { plain_ring: Err(libc::EPERM), ..whole() }).contains("seccomp"));
    }

    /// No newer kernel helps where memory is short, whatever was refused for it.
    #[test]
    fn a_lack_of_memory_names_the_limit_and_its_command() {
        let short = Err(libc::ENOMEM);
        let remedy = "Cannot allocate memory (os error 12) -> raise RLIMIT_MEMLOCK, or free memory; as root: ulimit -l \
                      unlimited (under systemd: LimitMEMLOCK=infinity); `edgehold doctor` names the least\n";
        for (what, kernel) in [
            ("io_uring_setup", Kernel { plain_ring: short, ..whole() }),
            ("io_uring DEFER_TASKRUN", Kernel { deferred_ring: short, ..whole() }),
            ("io_uring provided buffer rings", Kernel { buffer_ring: short, ..whole() }),
        ] {
            assert_eq!(refusal(&kernel), format!("{what}: {remedy}"));
        }
    }

    #[test]
    fn this_kernel_is_looked_at() {
        assert!(Kernel::look().version >= (3, 0));
    }
}
