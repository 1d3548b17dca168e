//! Configuration, command line, start and stop: the only room that reads files of the operator, arguments and
//! the machine's limits.

pub mod addresses;
mod admission;
pub mod broadcast;
pub mod capacity;
pub mod cli;
mod coefficients;
pub mod config;
pub mod derive;
pub mod doctor;
pub mod failure;
mod feeds;
pub mod findings;
mod gate;
pub mod generation;
mod log;
mod memory;
mod offload;
pub mod passwd;
pub mod privileges;
pub mod run;
pub mod shard_settings;
mod sysctls;
pub mod tls;
