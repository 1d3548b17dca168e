//! Writing the file of users: one user is added, changed or removed, the other lines stay as they are.

use super::users::{Users, check_word, says_something};
use argon2::{Argon2, PasswordHasher};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The mode of a file that was not there before.
const MODE: u32 = 0o600;

/// What becomes of a user.
pub enum Change<'p> {
    /// It has this password from now on, and these roles; `None`: those that it had.
    Set(&'p str, Option<&'p [String]>),
    /// It is removed.
    Delete,
}

/// Writes the file anew, whole or not at all; it is made where it is not there, unless a user is removed.
///
/// # Errors
/// The file is malformed or cannot be read or written, the name or a role can be none, or there is nobody to remove; in
/// words.
pub fn change(file: &Path, name: &str, change: &Change<'_>) -> Result<(), String> {
    check_word(name, "name").map_err(|words| format!("{name:?} {words}"))?;
    // The file itself, where the name is a link to it.
    let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let shown = file.display();
    let before = text_of(&file).map_err(|error| format!("{shown}: {error}"))?;
    let after = changed(before.as_deref().unwrap_or_default(), name, change)?;
    Users::of(&after).map_err(|faults| {
        let first = &faults[0];
        format!("{shown}:{}: {}", first.line, first.words)
    })?;
    replace(&file, after.as_bytes()).map_err(|error| format!("{shown}: {error}"))
}

/// `None`: there is no such file.
fn text_of(file: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn changed(text: &str, name: &str, change: &Change<'_>) -> Result<String, String> {
    let is_theirs = |line: &&str| says_something(line) && line.split(':').next() == Some(name);
    let before = text.lines().find(is_theirs);
    let line = match change {
        Change::Delete if before.is_none() => return Err(format!("there is no user {name:?}")),
        Change::Delete => None,
        Change::Set(password, roles) => Some(line(name, password, roles.map(|it| it.join(",")), before)?),
    };
    let mut lines: Vec<&str> = text.lines().filter(|line| Some(*line) != before).collect();
    let place = text.lines().position(|line| Some(line) == before).unwrap_or(lines.len());
    if let Some(line) = &line {
        lines.insert(place, line);
    }
    Ok(lines.iter().map(|line| format!("{line}\n")).collect())
}

fn line(name: &str, password: &str, roles: Option<String>, before: Option<&str>) -> Result<String, String> {
    let hash = Argon2::default().hash_password(password.as_bytes()).map_err(|error| error.to_string())?;
    let kept = || before.and_then(|line| line.splitn(3, ':').nth(2)).unwrap_or_default().to_owned();
    let roles = roles.unwrap_or_else(kept);
    Ok(if roles.is_empty() { format!("{name}:{hash}") } else { format!("{name}:{hash}:{roles}") })
}

/// A new file takes the place of the old one, with its mode and, where that is allowed, its owner.
fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let before = fs::metadata(file).ok();
    let new = beside(file);
    let written = write(&new, bytes, before.as_ref()).and_then(|()| fs::rename(&new, file));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written?;
    let folder = file.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(folder)?.sync_all()
}

fn beside(file: &Path) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!(".{name}.{}", std::process::id()))
}

fn write(new: &Path, bytes: &[u8], before: Option<&fs::Metadata>) -> io::Result<()> {
    let mut out = OpenOptions::new().write(true).create_new(true).mode(MODE).open(new)?;
    if let Some(before) = before {
        let _ = std::os::unix::fs::fchown(&out, Some(before.uid()), Some(before.gid()));
        out.set_permissions(Permissions::from_mode(before.mode() & 0o777))?;
    }
    out.write_all(bytes)?;
    out.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::Denied;

    fn roles(names: &[&str]) -> Vec<String> {
        names.iter().map(|it| (*it).to_owned()).collect()
    }

    #[test]
    fn users_come_change_and_go_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users");
        let read = || fs::read_to_string(&file).unwrap();
        change(&file, "ann", &Change::Set("one", Some(&roles(&["reader", "writer"])))).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        fs::write(&file, format!("# ours\n{}", read())).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        change(&file, "bob", &Change::Set("two", None)).unwrap();
        change(&file, "ann", &Change::Set("three", None)).unwrap();
        let users = Users::of(&read()).unwrap();
        assert_eq!(users.identity("ann", "three").unwrap().roles, ["reader", "writer"].map(Box::from).into());
        assert_eq!(users.identity("ann", "one"), Err(Denied::Password));
        assert_eq!(&*users.identity("bob", "two").unwrap().name, "bob");
        assert!(read().starts_with("# ours\nann:$argon2id$") && read().lines().count() == 3, "{}", read());
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o640);
        change(&file, "ann", &Change::Delete).unwrap();
        assert!(change(&file, "ann", &Change::Delete).unwrap_err().contains("no user"));
        assert_eq!((Users::of(&read()).unwrap().count(), fs::read_dir(folder.path()).unwrap().count()), (1, 1));
    }

    #[test]
    fn what_cannot_be_is_refused_and_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users");
        assert!(change(&file, "a:b", &Change::Set("x", None)).is_err());
        assert!(change(&file, "a", &Change::Set("x", Some(&roles(&["a:b"])))).is_err());
        assert!(change(&folder.path().join("none/users"), "a", &Change::Set("x", None)).is_err());
        assert!(!file.exists());
        fs::write(&file, "broken\n").unwrap();
        assert!(change(&file, "a", &Change::Set("x", None)).unwrap_err().contains("users:1:"));
        assert_eq!(fs::read_to_string(&file).unwrap(), "broken\n");
    }
}
