//! The keys of `[server]` about what the process may do to the machine.

use super::super::forms;
use super::super::model::{Privileges, Sandbox, Server};
use super::{Field, Key, Preset, put};

/// Before the defaults are laid in.
pub(crate) const BLANK_PRIVILEGES: Privileges =
    Privileges { user: None, group: None, sandbox: Sandbox::Auto, core_dumps: false };

const FORM: &str = "a name of this machine, \"edgehold\", or its number, \"65534\"";

pub(super) const USER: Key<Server> = Key {
    name: "user",
    field: Field::Text { form: FORM, store: |s, text| forms::account(text).map(|it| put(&mut s.privileges.user, it)) },
    default: Preset::Absent("whoever starts it"),
    words: "The user that the process becomes when all addresses are bound and all files are read, before the first \
            client.",
    note: "For a server that root starts; another can name only the user that it is. Groups besides `group` are given \
           up, and so are capabilities: there is no way back. Files of unix listeners become the user's. What is read \
           again later (certificates, keys, folders of files) must be the user's to read, and what feeds bind later \
           must be the user's to bind: where that is not so the server does not start, and says what to change.",
    example: "\"edgehold\"",
    see: &["group", "sandbox"],
    ..Key::PLAIN
};

pub(super) const GROUP: Key<Server> = Key {
    name: "group",
    field: Field::Text { form: FORM, store: |s, text| forms::account(text).map(|it| put(&mut s.privileges.group, it)) },
    default: Preset::Absent("that of the user"),
    words: "The group that the process changes to with `user`.",
    note: "It is the only one: a group that keys may be read by, such as `ssl-cert`, is written here.",
    example: "\"ssl-cert\"",
    see: &["user"],
    ..Key::PLAIN
};

pub(super) const SANDBOX: Key<Server> = Key {
    name: "sandbox",
    field: choice! { privileges.sandbox:
    "auto" => Sandbox::Auto, "off" => Sandbox::Off, "required" => Sandbox::Required },
    default: Preset::Is("auto"),
    words: "Whether the process locks itself in: by Landlock to the files that the configuration names, by seccomp \
            out of system calls that a server never makes.",
    note: "`auto` takes what the kernel has (Landlock from 5.13 on, if it was switched on at boot) and logs what is in \
           force; `required` does not start without both. Below the folder of each file that is named all may be read, \
           since files are replaced by others of their name: keep certificates in folders of their own, and none \
           directly in `/`, where only the file itself is reached. A link may come to lead to another place in the \
           folder that it leads to at start, and nowhere else. Programs can no longer be started, nor other processes \
           looked into.",
    see: &["user", "core_dumps"],
    ..Key::PLAIN
};

pub(super) const CORE_DUMPS: Key<Server> = Key {
    name: "core_dumps",
    field: Field::Flag { store: |s, value| s.privileges.core_dumps = value },
    default: Preset::Is("false"),
    words: "Whether a crash may leave the memory of the process, and a debugger of the same user may look into it.",
    note: "There are private keys in it, and what clients say. Without, `perf`, `strace`, `gdb`, and `ss -p` and \
           `lsof` about this process are root's alone.",
    see: &["sandbox"],
    ..Key::PLAIN
};
