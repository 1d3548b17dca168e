//! Watching files by inotify: not the files, which editors replace by others, but the folders in which their names
//! stand.
//!
//! A name may lead through symbolic links, of the file or of a folder on the way: what Kubernetes swaps when a secret
//! changes is the link `..data` beside it. So each link is a name to be watched, in the folder that it stands in.

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;
use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout, timeout_at};

/// Links that are followed on the way to one file: as many as the kernel does (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// How long nothing must change before files are read: a certificate and its key are written one after the other.
const QUIET: Duration = Duration::from_millis(250);

/// Then they are read, however much changes.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is told of a name: it was written to and closed, it leads to another file, it is gone, its mode has changed.
const WATCHED: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::MOVE)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);

/// A watch over some files as their names lead there now. When something has changed, a new one is made.
pub(super) struct Watch {
    inotify: AsyncFd<OwnedFd>,
    names: BTreeSet<OsString>,
}

impl Watch {
    /// What changes from now on is told.
    ///
    /// # Errors
    /// The kernel refuses inotify (`fs.inotify.max_user_instances`), or a folder (`fs.inotify.max_user_watches`).
    pub(super) fn over(files: &[PathBuf]) -> io::Result<Watch> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let mut names = BTreeSet::new();
        for Step { folder, name } in files.iter().flat_map(|file| steps(file)) {
            match inotify::add_watch(&inotify, &folder, WATCHED) {
                // It has gone since, and what it was part of is watched too.
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => return Err(error.into()),
            }
            names.insert(name);
        }
        // SAFETY: the descriptor is ours alone, and closed only with the AsyncFd that owns it.
        let inotify = unsafe { AsyncFd::register_with_interest(inotify, Interest::READABLE) }?;
        Ok(Watch { inotify, names })
    }

    /// Waits until some file may be another, and then until nothing has changed for a moment.
    ///
    /// # Errors
    /// The descriptor cannot be read.
    pub(super) async fn changed(&self) -> io::Result<()> {
        self.next().await?;
        let until = Instant::now() + PATIENCE;
        while let Ok(Ok(next)) = timeout_at(until, timeout(QUIET, self.next())).await {
            next?;
        }
        Ok(())
    }

    async fn next(&self) -> io::Result<()> {
        loop {
            let mut ready = self.inotify.readable().await?;
            let ours = self.drain()?;
            ready.clear_ready();
            if ours {
                return Ok(());
            }
        }
    }

    /// Reads all that was told; says whether some of it is about our names.
    fn drain(&self) -> io::Result<bool> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(self.inotify.get_ref(), &mut buffer);
        let mut ours = false;
        loop {
            match reader.next() {
                Ok(event) => ours |= event.file_name().is_none_or(|name| self.knows(name.to_bytes())),
                Err(Errno::AGAIN) => return Ok(ours),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn knows(&self, name: &[u8]) -> bool {
        self.names.contains(std::ffi::OsStr::from_bytes(name))
    }
}

/// A name on the way to a file that may come to lead elsewhere.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    /// A folder without links on the way to it.
    folder: PathBuf,
    name: OsString,
}

/// The links on the way to a file, and its own name at the end; where the way ends before, the name that is missing.
fn steps(file: &Path) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut at = PathBuf::from("/");
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let mut rest: VecDeque<OsString> = names(&absolute).collect();
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        let link = std::fs::read_link(&next).ok().filter(|_| steps.len() < LINKS_MAX);
        if link.is_some() || rest.is_empty() || !next.is_dir() {
            steps.push(Step { folder: at.clone(), name });
        }
        match link {
            Some(target) => {
                at = if target.is_absolute() { PathBuf::from("/") } else { at };
                rest = names(&target).chain(rest).collect();
            }
            None if next.is_dir() => at = next,
            None => break,
        }
    }
    steps
}

/// The folders in which stand the links on the way to a file, and at the end the one in which its own name stands: what
/// of them changes may make the name lead to another file.
pub fn folders_on_the_way(file: &Path) -> Vec<PathBuf> {
    steps(file).into_iter().map(|step| step.folder).collect()
}

/// The names of a path, without its root and without `.`.
fn names(path: &Path) -> impl Iterator<Item = OsString> {
    use std::path::Component;
    let name = |it: Component<'_>| match it {
        Component::Normal(_) | Component::ParentDir => Some(it.as_os_str().to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(name).collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn block_on<T>(story: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(story)
    }

    /// A watch over a file is told of what `change` does, and of nothing that is done to others.
    fn is_told(file: &Path, others: impl FnOnce(), change: impl FnOnce()) {
        block_on(async {
            let watch = Watch::over(&[file.to_owned()]).unwrap();
            others();
            assert!(!watch.drain().unwrap(), "others");
            change();
            timeout(Duration::from_secs(10), watch.changed()).await.expect("it is told").unwrap();
        });
    }

    #[test]
    fn a_file_that_is_replaced_by_rename_or_written_anew_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (file, other) = (folder.path().join("a.pem"), folder.path().join("b.pem"));
        fs::write(&file, "1").unwrap();
        is_told(&file, || fs::write(&other, "2").unwrap(), || fs::rename(&other, &file).unwrap());
        is_told(&file, || fs::write(&other, "2").unwrap(), || fs::write(&file, "3").unwrap());
        is_told(&file, || (), || fs::remove_file(&file).unwrap());
        is_told(&file, || (), || fs::write(&file, "4").unwrap());
    }

    /// Kubernetes: `tls.crt` leads to `..data/tls.crt`, and `..data` to a folder that is swapped as a whole.
    #[test]
    fn a_link_that_is_swapped_is_told_wherever_it_is_on_the_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for version in ["..v1", "..v2"] {
            fs::create_dir(path(version)).unwrap();
            fs::write(path(version).join("tls.crt"), version).unwrap();
        }
        symlink("..v1", path("..data")).unwrap();
        symlink("..data/tls.crt", path("tls.crt")).unwrap();
        let swap = || {
            symlink("..v2", path("..data_tmp")).unwrap();
            fs::rename(path("..data_tmp"), path("..data")).unwrap();
        };
        is_told(&path("tls.crt"), || (), swap);
        is_told(
            &path("tls.crt"),
            || fs::write(path("..v1").join("x"), "").unwrap(),
            || {
                fs::write(path("..v2").join("tls.crt"), "v3").unwrap();
            },
        );
        fs::create_dir(path("far")).unwrap();
        symlink(path("..v1"), path("far/current")).unwrap();
        let file = path("far/current/tls.crt");
        is_told(
            &file,
            || (),
            || {
                symlink(path("..v2"), path("far/next")).unwrap();
                fs::rename(path("far/next"), path("far/current")).unwrap();
            },
        );
    }

    #[test]
    fn a_file_that_is_not_there_yet_is_told_when_its_folder_comes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("later/a.pem");
        is_told(
            &file,
            || fs::write(folder.path().join("x"), "").unwrap(),
            || {
                fs::create_dir(folder.path().join("later")).unwrap();
            },
        );
    }

    #[test]
    fn links_that_go_round_have_an_end() {
        let folder = tempfile::tempdir().unwrap();
        symlink("b", folder.path().join("a")).unwrap();
        symlink("a", folder.path().join("b")).unwrap();
        assert!(steps(&folder.path().join("a")).len() <= LINKS_MAX + 2);
    }
}
