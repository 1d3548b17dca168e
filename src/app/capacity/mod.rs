//! The plan: what a load takes, from the load alone, and whether a machine gives it.
//!
//! `arguments` is what was typed, `load` the same in numbers. `memory`, `cpu`, `network` and `limits` are sums over
//! the load with the coefficients of `crate::app::coefficients`; `doctor` and `derive` use the same sums. `text`
//! writes them down. Nothing here asks the machine: it is an argument.

mod arguments;
mod brokers;
pub mod cpu;
pub mod limits;
pub mod load;
pub mod memory;
pub mod network;
#[cfg(test)]
mod tests;
mod text;

use std::collections::HashSet;

use serde::Serialize;

pub use arguments::Arguments;
use cpu::Cpu;
use limits::{Files, NIC_PAGE, Ports, Sysctl, TRACKING_PAGE};
use load::Load;
use memory::Memory;
use network::Network;

use super::coefficients::{Coefficient, TABLE};
use super::config::Config;
use super::derive::Machine;
use crate::engine::finding::Finding;

/// A whole plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// What was asked, with all that the configuration adds.
    pub load: Load,
    /// The machine that was held against it.
    pub machine: Given,
    /// What the load takes.
    #[serde(flatten)]
    pub sums: Sums,
    /// The sysctls it needs.
    pub sysctls: Vec<Sysctl>,
    /// What was held against it besides.
    pub findings: Vec<Finding>,
    /// Whether nothing fails.
    pub fits: bool,
    /// What the figures do not show.
    pub notes: Vec<String>,
    /// What the sums were made of.
    pub coefficients: Vec<Coefficient>,
}

/// What a load takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sums {
    /// Memory.
    pub memory: Memory,
    /// Cores.
    pub cpu: Cpu,
    /// Packets and bits.
    pub network: Network,
    /// Descriptors.
    pub files: Files,
    /// Local ports.
    pub ports: Ports,
}

/// What a machine gives.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Given {
    /// Cores.
    pub cores: u64,
    /// Memory that can be had.
    pub memory_bytes: u64,
    /// RLIMIT_NOFILE, up to where it may be raised.
    pub nofile: u64,
}

/// Plans a load. `machine` is this one; the arguments may put others' figures in its place.
///
/// # Errors
/// One line for the operator where the arguments contradict each other.
pub fn plan(asked: &Arguments, config: &Config, machine: &Machine) -> Result<Plan, String> {
    let load = Load::of(asked, config)?;
    let machine = instead(asked, machine);
    let sums = Sums::of(&load, asked, config, &machine);
    let sysctls = limits::sysctls(&load, &sums, config, &machine);
    let findings = limits::findings(&load, &sums, asked, config, &machine);
    let fits = sysctls.iter().map(|one| &one.row).chain(&findings).all(|row| !row.fails());
    let (notes, coefficients) = (notes(&load, asked), used(&sums));
    Ok(Plan { load, machine: given(&machine), sums, sysctls, findings, fits, notes, coefficients })
}

impl Sums {
    fn of(load: &Load, asked: &Arguments, config: &Config, machine: &Machine) -> Sums {
        let files = Files::of(load, config, machine);
        Sums {
            memory: Memory::of(load, config, files.shards),
            cpu: Cpu::of(load, files.shards),
            network: Network::of(load),
            ports: Ports::of(load, limits::upstreams(asked, config)),
            files,
        }
    }
}

impl Plan {
    /// The plan as one JSON object on several lines.
    ///
    /// # Panics
    /// Never: it is plain data with names for keys.
    pub fn json(&self) -> String {
        let json = serde_json::to_string_pretty(self).expect("plain data with names for keys");
        format!("{json}\n")
    }

    /// The plan for eyes.
    pub fn text(&self) -> String {
        text::write(self)
    }
}

/// The machine with the figures that were given for another.
fn instead(asked: &Arguments, machine: &Machine) -> Machine {
    let nofile = |own: u64| asked.nofile.unwrap_or(own);
    Machine {
        cores: asked.cores.map_or(machine.cores, |cores| cores as usize),
        memory_available: asked.memory.unwrap_or(machine.memory_available),
        memory_total: asked.memory.unwrap_or(machine.memory_total),
        nofile_soft: nofile(machine.nofile_soft),
        nofile_hard: nofile(machine.nofile_hard),
        ..machine.clone()
    }
}

fn given(machine: &Machine) -> Given {
    Given { cores: machine.cores as u64, memory_bytes: machine.memory_available, nofile: machine.nofile() }
}

/// The coefficients that the parts name, in the order of the table.
fn used(sums: &Sums) -> Vec<Coefficient> {
    let memory = sums.memory.parts.iter().flat_map(|part| &part.coefficients);
    let names: HashSet<&str> =
        memory.chain(sums.cpu.parts.iter().flat_map(|part| &part.coefficients)).copied().collect();
    TABLE.into_iter().filter(|one| names.contains(one.name)).collect()
}

/// The words that must stand beside the figures.
fn notes(load: &Load, asked: &Arguments) -> Vec<String> {
    let tracked = load.slots();
    let foreign = asked.memory.is_some() || asked.cores.is_some() || asked.nofile.is_some();
    let notes = [
        (true, format!("{CPU_NOTE} ({NIC_PAGE}).")),
        (true, TRANSIENT_NOTE.to_string()),
        (load.tls_share > 0.0, TLS_NOTE.to_string()),
        (load.publish_rate > 0.0, FANOUT_NOTE.to_string()),
        (load.connect_rate > 0.0, CONNECT_NOTE.to_string()),
        (foreign, FOREIGN_NOTE.to_string()),
        (true, format!("{TRACKING_NOTE} net.netfilter.nf_conntrack_max={tracked} or more ({TRACKING_PAGE}).")),
    ];
    notes.into_iter().filter(|(said, _)| *said).map(|(_, words)| words).collect()
}

const CPU_NOTE: &str = "cores: measured over the loopback, with both ends on one machine. Interrupts and drivers of a \
                        network card are not in it: leave room for them, measure on the machine itself, and let all \
                        cores share them";
const TRANSIENT_NOTE: &str = "transient: what is under way for one round trip, all at its peak. A receiver that loses \
                              packets or reads late keeps more, up to max_pending and unsent_bytes.";
const TLS_NOTE: &str = "TLS: sessions are those with AES-256, the larger ones, though the server \
                        prefers AES-128. CPU is rustls's, measured by itself. Where something in front does TLS, they \
                        are that one's.";
const FANOUT_NOTE: &str = "fan-out: deliveries over WebSocket. Other transports cost the same to a few in a hundred; \
                           permessage-deflate is not in it.";
const CONNECT_NOTE: &str = "network: packets of connections that come and go are not counted.";
const FOREIGN_NOTE: &str = "machine: what was not given (sysctls, open files) is that of this one.";
const TRACKING_NOTE: &str = "firewall: where it tracks connections, keep these out of it, or sysctl -w";
