//! Files: what a ring is asked for, and the part of it that needs no waiting, which is a system call.
//!
//! io_uring hands every statx(2) to a worker thread, and whatever of an open or a read would wait. What the kernel has
//! in its caches is had for less by asking it not to wait: openat2(2) with RESOLVE_CACHED, statx(2) with
//! AT_STATX_DONT_SYNC, preadv2(2) with RWF_NOWAIT. So `at_once` is tried first where a file system is known to keep
//! to that, and the ring is asked for the rest (docs/decisions/files.md).

use super::{GATHER, Piece};
use io_uring::types::OpenHow;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// A file that a ring has opened: a number that means something to that ring only, until it closes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId(pub(super) RawFd);

impl FileId {
    /// What a request to open has brought.
    pub fn from_result(number: u32) -> FileId {
        FileId(number.cast_signed())
    }
}

/// How a name is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// A folder by its whole name, to open others beneath it.
    Folder,
    /// A file beneath a folder, to be read. Neither `..` nor a link leads out of the folder.
    Beneath,
    /// Whatever the name leads to, from a folder on; only to ask what it is called.
    Name,
}

/// What is asked about a file.
#[derive(Clone, Copy, Debug)]
pub enum FileRequest<'a> {
    /// A name, from a folder on (`None`: the whole name). Brings a [`FileId`].
    Open {
        /// The folder.
        from: Option<FileId>,
        /// The name, which must stay where it is until the ring's next turn.
        name: &'a CStr,
        /// How.
        opening: Opening,
    },
    /// What is known of the file is asked anew of whoever keeps it ([`Ring::file_stat`](super::Ring::file_stat)).
    Refresh(FileId),
    /// Bytes, into at most [`GATHER`] pieces, one behind the other. Brings how many came; none: the end.
    Read {
        /// The file.
        file: FileId,
        /// The place of the first.
        at: u64,
        /// Where they go.
        into: &'a [Piece],
    },
    /// The file is given back.
    Close(FileId),
}

/// What the kernel knows of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStat {
    /// The file system, and the file in it.
    pub place: (u64, u64),
    /// Bytes.
    pub length: u64,
    /// When it was changed last, in seconds since 1970 and nanoseconds.
    pub modified: (i64, u32),
    /// What it is.
    pub kind: FileKind,
}

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A file with bytes.
    Regular,
    /// A folder.
    Folder,
    /// A pipe, a device, a socket.
    Other,
}

// NONBLOCK: a pipe that nobody writes to must not hold a thread.
const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const NAME: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

impl Opening {
    fn how(self) -> (OFlags, ResolveFlags) {
        match self {
            Opening::Folder => (FOLDER, ResolveFlags::empty()),
            Opening::Beneath => (READ, BENEATH),
            Opening::Name => (NAME, ResolveFlags::NO_MAGICLINKS),
        }
    }

    /// As the ring takes it.
    pub(super) fn open_how(self) -> &'static OpenHow {
        const fn how(flags: OFlags, resolve: ResolveFlags) -> OpenHow {
            OpenHow::new().flags(flags.bits() as u64).resolve(resolve.bits())
        }
        static FOLDERS: OpenHow = how(FOLDER, ResolveFlags::empty());
        static BELOW: OpenHow = how(READ, BENEATH);
        static NAMES: OpenHow = how(NAME, ResolveFlags::NO_MAGICLINKS);
        match self {
            Opening::Folder => &FOLDERS,
            Opening::Beneath => &BELOW,
            Opening::Name => &NAMES,
        }
    }
}

/// Does what needs no waiting. `None`: something would have to be waited for, and nothing was done.
///
/// # Errors
/// The errno.
///
/// # Safety
/// A file of the request is open; the pieces of a read may be written to.
pub(super) unsafe fn at_once(request: &FileRequest<'_>) -> Option<Result<u32, i32>> {
    match *request {
        // SAFETY: the caller's promise.
        FileRequest::Open { from, name, opening } => open(from.map(|it| unsafe { borrowed(it) }), name, opening),
        FileRequest::Refresh(_) => None,
        // SAFETY: the caller's promise.
        FileRequest::Read { file, at, into } => unsafe { read(file, at, into) },
        FileRequest::Close(file) => {
            // SAFETY: the caller has opened it and gives it up.
            drop(unsafe { OwnedFd::from_raw_fd(file.0) });
            Some(Ok(0))
        }
    }
}

/// No mount is crossed: on another file system a name that is in the cache may have to be asked for all the same.
fn open(from: Option<BorrowedFd<'_>>, name: &CStr, opening: Opening) -> Option<Result<u32, i32>> {
    let (flags, mut resolve) = opening.how();
    resolve |= ResolveFlags::CACHED;
    if opening == Opening::Beneath {
        resolve |= ResolveFlags::NO_XDEV;
    }
    match rustix::fs::openat2(from.unwrap_or(rustix::fs::CWD), name, flags, Mode::empty(), resolve) {
        Ok(file) => Some(Ok(file.into_raw_fd().cast_unsigned())),
        Err(Errno::AGAIN | Errno::XDEV) => None,
        Err(error) => Some(Err(error.raw_os_error())),
    }
}

/// # Safety
/// As for `at_once`.
unsafe fn read(file: FileId, at: u64, into: &[Piece]) -> Option<Result<u32, i32>> {
    let mut places = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; GATHER];
    let count = into.len().min(GATHER);
    for (place, piece) in places.iter_mut().zip(into) {
        *place = libc::iovec { iov_base: piece.start.cast_mut().cast(), iov_len: piece.len };
    }
    // SAFETY: the caller's promise.
    let len = unsafe {
        libc::preadv2(file.0, places.as_ptr(), count.cast_signed() as i32, at.cast_signed(), libc::RWF_NOWAIT)
    };
    match (u32::try_from(len), std::io::Error::last_os_error().raw_os_error()) {
        (Ok(len), _) => Some(Ok(len)),
        // Not every file system can be asked so.
        (_, Some(libc::EAGAIN | libc::EOPNOTSUPP | libc::EINTR)) => None,
        (_, errno) => Some(Err(errno.unwrap_or(libc::EIO))),
    }
}

/// What is known of an open file without asking anybody.
///
/// # Errors
/// The errno.
///
/// # Safety
/// The file is open.
pub(super) unsafe fn stat(file: FileId) -> Result<FileStat, i32> {
    let wanted = StatxFlags::TYPE | StatxFlags::MTIME | StatxFlags::INO | StatxFlags::SIZE;
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    // SAFETY: the caller's promise.
    let about = rustix::fs::statx(unsafe { borrowed(file) }, c"", flags, wanted).map_err(Errno::raw_os_error)?;
    Ok(FileStat {
        place: (u64::from(about.stx_dev_major) << 32 | u64::from(about.stx_dev_minor), about.stx_ino),
        length: about.stx_size,
        modified: (about.stx_mtime.tv_sec, about.stx_mtime.tv_nsec),
        kind: match FileType::from_raw_mode(about.stx_mode.into()) {
            FileType::RegularFile => FileKind::Regular,
            FileType::Directory => FileKind::Folder,
            _ => FileKind::Other,
        },
    })
}

/// What `file` is called seen from `folder`; `None` where it does not lie below it.
pub(super) fn name_below(file: FileId, folder: FileId) -> Option<CString> {
    let path = |file: FileId| std::fs::read_link(PathBuf::from(format!("/proc/self/fd/{}", file.0))).ok();
    let below = path(file)?.strip_prefix(path(folder)?).ok()?.to_owned();
    CString::new(below.into_os_string().into_vec()).ok()
}

/// # Safety
/// The file stays open for as long as this is used.
unsafe fn borrowed<'a>(file: FileId) -> BorrowedFd<'a> {
    // SAFETY: the caller's promise.
    unsafe { BorrowedFd::borrow_raw(file.0) }
}

/// File systems on a disk of this machine or in its memory, whose cached names and open files are had without asking
/// anybody: ext2 to ext4, XFS, Btrfs, F2FS, ZFS, tmpfs, overlayfs, EROFS and SquashFS (`linux/magic.h`).
const LOCAL: [i64; 10] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0xf2f5_2010,
    0x2fc1_2fc1,
    0x0102_1994,
    0x794c_7630,
    0xe0f5_e1e2,
    0x7371_7368,
    0x8584_58f6,
];

/// The file system of a folder, if it is one of this machine. May wait.
pub fn local_device(folder: &std::path::Path) -> Option<u64> {
    let about = rustix::fs::statfs(folder).ok()?;
    #[allow(clippy::useless_conversion, reason = "the type differs between architectures")]
    let kind = i64::from(about.f_type) & 0xffff_ffff;
    let device = rustix::fs::stat(folder).ok()?.st_dev;
    LOCAL.contains(&kind).then(|| u64::from(rustix::fs::major(device)) << 32 | u64::from(rustix::fs::minor(device)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::privilege::landlock::{Prepared, Rules, Strength};
    use crate::engine::uring::{Setup, Uring};
    use crate::engine::{Operation, Ring, Tag};
    use std::os::unix::fs::symlink;
    use std::time::{Duration, Instant};

    fn ring() -> Uring {
        let setup =
            Setup { table: 16, buffers: 2, buffer_bytes: 512, unsent_bytes: 0, silence: Duration::ZERO, files: 4 };
        Uring::new(setup, crate::engine::tests::waker(), Vec::new()).expect("a ring")
    }

    /// Through the ring, as for what is in no cache.
    fn through(ring: &mut Uring, request: &FileRequest<'_>) -> Result<u32, i32> {
        let tag = Tag::new(7, 3, Operation::File);
        // SAFETY: what the request points to lives until this function returns.
        unsafe { ring.file(tag, request) };
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < Duration::from_secs(10), "{request:?} is not done");
            ring.wait(Some(Duration::from_millis(100))).expect("a wait");
            if let Some(completion) = ring.next() {
                assert_eq!(completion.tag, tag);
                return completion.result;
            }
        }
    }

    fn now(ring: &mut Uring, request: &FileRequest<'_>) -> Option<Result<u32, i32>> {
        // SAFETY: the files are open, and the pieces belong to the test.
        unsafe { ring.file_at_once(request) }
    }

    fn name(text: &str) -> CString {
        CString::new(text).expect("a name")
    }

    /// A folder with a file `f`, ways out of it, and a pipe that nobody writes to.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("root")).expect("a folder");
        std::fs::write(path("root/f"), b"some bytes of a file").expect("a file");
        std::fs::write(path("secret"), b"not for you").expect("a file");
        for (name, to) in [("inside", "f".into()), ("out", "../secret".into()), ("absolute", path("root/f"))] {
            symlink(to, path("root").join(name)).expect("a link");
        }
        rustix::fs::mknodat(rustix::fs::CWD, path("root/pipe"), FileType::Fifo, Mode::RUSR, 0).expect("a pipe");
        folder
    }

    fn root(ring: &mut Uring, folder: &tempfile::TempDir) -> FileId {
        let path = name(folder.path().join("root").to_str().expect("text"));
        let request = FileRequest::Open { from: None, name: &path, opening: Opening::Folder };
        FileId::from_result(through(ring, &request).expect("the folder"))
    }

    #[test]
    fn a_file_is_opened_looked_at_read_and_closed_through_the_ring_and_at_once() {
        let (folder, mut ring) = (folder(), ring());
        let root = root(&mut ring, &folder);
        let (f, mut front, mut back) = (name("f"), [0; 5], [0; 100]);
        for at_once in [false, true] {
            let ask = |ring: &mut Uring, request: &FileRequest<'_>| {
                if at_once { now(ring, request).expect("it is in the cache") } else { through(ring, request) }
            };
            let open = FileRequest::Open { from: Some(root), name: &f, opening: Opening::Beneath };
            let file = FileId::from_result(ask(&mut ring, &open).expect("the file"));
            assert_eq!(through(&mut ring, &FileRequest::Refresh(file)), Ok(0));
            // SAFETY: the file is open.
            let stat = unsafe { ring.file_stat(file) }.expect("what is known");
            assert_eq!((stat.length, stat.kind), (20, FileKind::Regular));
            let into = [&mut front[..], &mut back[..]].map(|it| Piece { start: it.as_ptr(), len: it.len() });
            let read = FileRequest::Read { file, at: 5, into: &into };
            assert_eq!(ask(&mut ring, &read), Ok(15));
            assert_eq!((&front, &back[..10]), (b"bytes", &b" of a file"[..]));
            assert_eq!(ask(&mut ring, &FileRequest::Read { file, at: 20, into: &into }), Ok(0));
            assert_eq!(ask(&mut ring, &FileRequest::Close(file)), Ok(0));
            (front, back) = ([0; 5], [0; 100]);
        }
    }

    #[test]
    fn nothing_leads_out_of_a_folder_and_a_pipe_holds_nobody() {
        let (folder, mut ring) = (folder(), ring());
        let root = root(&mut ring, &folder);
        let expected = [("inside", true), ("out", false), ("absolute", false), ("../secret", false), ("pipe", true)];
        for (path, opens) in expected {
            let path = name(path);
            let request = FileRequest::Open { from: Some(root), name: &path, opening: Opening::Beneath };
            let opened = through(&mut ring, &request);
            assert_eq!(opened.map(|_| ()), if opens { Ok(()) } else { Err(libc::EXDEV) }, "{path:?}");
            if let Some(at_once) = now(&mut ring, &request) {
                assert_eq!(at_once.is_ok(), opens, "{path:?}");
            }
        }
    }

    /// The ring's workers are threads of the kernel's, and opening at once is a call of this thread: neither is a way
    /// around Landlock.
    #[test]
    fn what_landlock_closes_a_ring_does_not_open() {
        let folder = folder();
        let folders = ["root", "shut"].map(|it| folder.path().join(it));
        std::fs::create_dir(&folders[1]).and_then(|()| std::fs::write(folders[1].join("f"), b"shut")).expect("a file");
        let rules = Rules { read: vec![folders[0].clone()], ..Rules::default() };
        let opened = std::thread::spawn(move || {
            let strength = rules.prepare().and_then(Prepared::restrict_thread).expect("Landlock");
            let (mut ring, f) = (ring(), name("f"));
            let opened = folders.map(|folder| {
                let folder = name(folder.to_str().expect("text"));
                let request = FileRequest::Open { from: None, name: &folder, opening: Opening::Folder };
                let folder = FileId::from_result(through(&mut ring, &request).expect("to be named, not read"));
                let request = FileRequest::Open { from: Some(folder), name: &f, opening: Opening::Beneath };
                [through(&mut ring, &request).err(), now(&mut ring, &request).and_then(Result::err)]
            });
            (strength, opened)
        });
        match opened.join().expect("the thread") {
            (Strength::Absent, _) => println!("skip: this kernel has no Landlock"),
            (_, opened) => assert_eq!(opened, [[None; 2], [Some(libc::EACCES); 2]]),
        }
    }

    #[test]
    fn what_a_link_leads_to_is_named_from_the_folder() {
        let (folder, mut ring) = (folder(), ring());
        let root = root(&mut ring, &folder);
        for (path, expected) in [("absolute", Some(name("f"))), ("out", None)] {
            let path = name(path);
            let request = FileRequest::Open { from: Some(root), name: &path, opening: Opening::Name };
            let file = FileId::from_result(through(&mut ring, &request).expect("it leads somewhere"));
            assert_eq!(ring.file_name(file, root), expected, "{path:?}");
        }
    }

    #[test]
    fn a_folder_of_this_machine_is_told_from_what_a_daemon_answers_for() {
        let folder = folder();
        assert!(local_device(folder.path()).is_some());
        assert_eq!(local_device(std::path::Path::new("/proc")), None);
        assert_eq!(local_device(&folder.path().join("nothing")), None);
    }
}
