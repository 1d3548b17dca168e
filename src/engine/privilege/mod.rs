//! What this process may do to the machine, and how it gives up what it does not need.
//!
//! | file | what |
//! |---|---|
//! | `account` | the user and the group to change to |
//! | `process` | no_new_privs, core dumps |
//! | `landlock` | which files may be opened, and how |
//! | `calls` | which system calls are refused |
//!
//! Give up in this order, all of it before threads other than the calling one exist, but for those that have nothing to
//! do with clients: the account, core dumps, no_new_privs, Landlock, the filter of system calls. Users, groups and the
//! filter are of the whole process; Landlock is of the calling thread, and of those that it starts afterwards. Worker
//! threads of an io_uring have what the thread has that submits.

pub mod account;
pub mod calls;
pub mod landlock;
pub mod process;
