//! Landlock (landlock(7)): files that are not named here cannot be opened, made or removed, whoever the user is.
//!
//! Rules are about files and folders as they are when the rules are made, not about names: a file that is replaced by
//! another of its name is a new one, and only a rule about the folder reaches it. What is open already stays usable.
//! Names are not hidden: stat(2), readlink(2) and O_PATH are not restricted, nor are changes of modes and owners, which
//! [`super::calls`] refuses. What an io_uring is asked to open is held against the same rules.

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort, RestrictionStatus,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope, path_beneath_rules,
};
use std::fmt::Display;
use std::path::PathBuf;

/// What is restricted of files: all that version 5 knows (Linux 6.10). An older kernel restricts what it can.
const FILES: ABI = ABI::V5;

/// What may be done. All that is not named is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Files, and folders with all beneath, that may be read. What is not there is passed over.
    pub read: Vec<PathBuf>,
    /// Folders in which unix sockets may be made and removed.
    pub sockets: Vec<PathBuf>,
    /// TCP ports that may be bound; port 0, one that the kernel chooses, always may (Linux 6.7).
    pub ports: Vec<u16>,
}

/// Rules that the kernel has taken, and that threads may put themselves under.
#[derive(Debug)]
pub struct Prepared(RulesetCreated);

/// What is in force after [`Prepared::restrict_thread`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// The kernel has no Landlock, or it was not switched on at boot (`lsm=`).
    Absent,
    /// That of this version of the kernel's interface.
    Version(i32),
}

impl Rules {
    /// Hands the rules to the kernel. Nothing is restricted yet.
    ///
    /// # Errors
    /// The kernel refuses them, in words.
    pub fn prepare(&self) -> Result<Prepared, String> {
        self.build().map(Prepared).map_err(words)
    }

    /// # Errors
    /// As [`Rules::prepare`].
    fn build(&self) -> Result<RulesetCreated, RulesetError> {
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let sockets: BitFlags<AccessFs> = AccessFs::MakeSock | AccessFs::RemoveFile;
        Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(FILES))?
            .handle_access(AccessNet::BindTcp)?
            .scope(Scope::AbstractUnixSocket | Scope::Signal)?
            .create()?
            .add_rules(path_beneath_rules(&self.read, read))?
            .add_rules(path_beneath_rules(&self.sockets, sockets))?
            .add_rules(
                self.ports
                    .iter()
                    .chain(&[0])
                    .map(|port| Ok::<_, RulesetError>(NetPort::new(*port, AccessNet::BindTcp))),
            )
    }
}

impl Prepared {
    /// Another handle on the same rules, for another thread.
    ///
    /// # Errors
    /// As dup(2), in words.
    pub fn another(&self) -> Result<Prepared, String> {
        self.0.try_clone().map(Prepared).map_err(words)
    }

    /// Puts the calling thread under the rules, and all that it starts from now on. Sets no_new_privs.
    ///
    /// # Errors
    /// The kernel refuses, in words.
    pub fn restrict_thread(self) -> Result<Strength, String> {
        self.0.restrict_self().map(|status| strength(&status)).map_err(words)
    }
}

fn strength(status: &RestrictionStatus) -> Strength {
    match status.landlock {
        LandlockStatus::Available { effective_abi, kernel_abi } => {
            Strength::Version(kernel_abi.unwrap_or(effective_abi as i32))
        }
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => Strength::Absent,
    }
}

fn words(error: impl Display) -> String {
    format!("Landlock: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::net::UnixListener;

    /// Whether this kernel has it; says so where not.
    fn is_there() -> bool {
        let there = std::thread::spawn(|| Rules::default().prepare().unwrap().restrict_thread());
        let there = there.join().expect("the thread") != Ok(Strength::Absent);
        if !there {
            println!("skip: this kernel has no Landlock");
        }
        there
    }

    /// A folder with a file in each of two folders.
    fn folders() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["open", "closed"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
            fs::write(folder.path().join(name).join("file"), name).expect("a file");
        }
        folder
    }

    /// Runs on a thread of its own, which alone has the rules.
    fn restricted<T: Send + 'static>(rules: Rules, task: impl FnOnce() -> T + Send + 'static) -> T {
        let thread = std::thread::spawn(move || {
            assert!(matches!(rules.prepare().unwrap().restrict_thread(), Ok(Strength::Version(1..))));
            task()
        });
        thread.join().expect("the thread")
    }

    #[test]
    fn only_what_is_named_is_read_and_nothing_is_written() {
        let folder = folders();
        let at = folder.path().to_owned();
        let rules = Rules { read: vec![at.join("open"), at.join("not there")], ..Rules::default() };
        if !is_there() {
            return;
        }
        restricted(rules, move || {
            assert_eq!(fs::read(at.join("open/file")).unwrap(), b"open");
            fs::rename(at.join("open/file"), at.join("open/moved")).unwrap_err();
            let refused = [
                File::open(at.join("closed/file")).map(drop),
                File::options().write(true).open(at.join("open/file")).map(drop),
                File::create(at.join("open/new")).map(drop),
                fs::remove_file(at.join("open/file")),
                fs::read_dir(&at).map(drop),
                UnixListener::bind(at.join("open/socket")).map(drop),
            ];
            for (number, result) in refused.into_iter().enumerate() {
                assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied, "{number}");
            }
        });
    }

    #[test]
    fn sockets_are_made_and_removed_where_they_may_be() {
        let folder = folders();
        let at = folder.path().to_owned();
        if !is_there() {
            return;
        }
        restricted(Rules { sockets: vec![at.join("open")], ..Rules::default() }, move || {
            let listener = UnixListener::bind(at.join("open/socket")).expect("a socket");
            drop(listener);
            fs::remove_file(at.join("open/socket")).expect("it is removed");
            File::create(at.join("open/new")).unwrap_err();
        });
    }
}
