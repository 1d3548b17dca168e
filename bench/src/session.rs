//! What every mode begins with: the server found and greeted, the machine looked at, a crew made.

use crate::admin::Admin;
use crate::broker::Dialect;
use crate::cli::Common;
use crate::crowd::table::{Opening, offer};
use crate::crowd::{Crew, Plan};
use crate::failure::{Failure, failed, mistaken};
use crate::preflight::{self, Ground};
use crate::result::{Asked, Connect, Load, Outcome, Reading};
use crate::target::{Speech, Target};
use crate::watch::{self, Server};
use edgehold_wire::upgrade;
use std::net::SocketAddr;
use std::sync::Arc;

/// A client whose CPU is above this was the limit itself.
pub const BUSY: f64 = 0.8;
/// One key for all clients: what a server makes of it does not depend on it.
const KEY: [u8; 16] = *b"edgehold-bench/1";

/// The server and the machine, before the first client.
pub struct Session<'a> {
    /// The flags.
    pub common: &'a Common,
    /// The server.
    pub target: Target,
    /// What the machine gives.
    pub ground: Ground,
    /// The watched process.
    pub server: Option<Server>,
    /// Its counters.
    pub admin: Option<Admin>,
    /// What clients say to a broker, where it is one.
    dialect: Option<Arc<Dialect>>,
}

impl<'a> Session<'a> {
    /// Finds everything that the flags name, and writes down what was asked and where.
    ///
    /// # Errors
    /// What would stop the run.
    pub fn open(common: &'a Common, out: &mut Outcome) -> Result<Session<'a>, Failure> {
        Session::at_broker(common, None, out)
    }

    /// The same with a broker, or what stands before one.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn at_broker(
        common: &'a Common,
        dialect: Option<Arc<Dialect>>,
        out: &mut Outcome,
    ) -> Result<Session<'a>, Failure> {
        let target = target(common, &common.url)?;
        let ground = preflight::look(common, &target)?;
        preflight::knock(&target, &request(&target, &common.header, common.deflate, dialect.as_ref()))?;
        preflight::conntrack(common.connections)?;
        let server = common.server_pid.map(|pid| Server::find(pid, target.port())).transpose()?;
        let admin = common.admin.as_deref().map(Admin::find).transpose()?;
        describe(common, &ground, out);
        Ok(Session { common, target, ground, server, admin, dialect })
    }

    /// Whether messages can be said to this server, and come back.
    ///
    /// # Errors
    /// Its URL is that of a stream, which only speaks.
    pub fn must_echo(&self) -> Result<(), Failure> {
        match self.target.speech {
            Speech::Stream => {
                mistaken(format!("{}: an event stream hears nothing; give ws:// or tcp://", self.target.url))
            }
            _ => Ok(()),
        }
    }

    /// Whether what was said came back.
    ///
    /// # Errors
    /// Nothing of it did: a path of a broadcast takes messages, too, and answers them with something else, if at all.
    pub fn echoes(&self, load: &Load) -> Result<(), Failure> {
        if load.sent == 0 || load.received > load.changed {
            return Ok(());
        }
        let (url, sent) = (&self.target.url, load.sent);
        mistaken(format!("{url}: none of {sent} messages came back; give the path of a service that echoes"))
    }

    /// What server and kernel hold beside so many clients. The server's memory is that of its process, or what it tells
    /// of itself at its admin address.
    pub fn reading(&self, connections: u64) -> Reading {
        let mut reading = watch::reading(connections, self.server);
        let told = || self.admin.as_ref()?.metrics().ok()?.resident_bytes();
        reading.rss_bytes = reading.rss_bytes.or_else(told);
        reading
    }

    /// A crew for `connections` clients; `by_poll` where they are mostly idle.
    ///
    /// # Errors
    /// The kernel refuses threads or rings.
    pub fn crew(&self, connections: u64, by_poll: bool) -> Result<Crew, Failure> {
        self.crew_for(&self.target, connections, by_poll, self.server)
    }

    /// Others than those who are measured by the mode, and busy; the server's CPU is not theirs.
    ///
    /// # Errors
    /// As [`Session::crew`].
    pub fn others(&self, connections: u64) -> Result<Crew, Failure> {
        Crew::start(&Plan { name: "inside", ..self.plan(&self.target, connections, false, None) })
    }

    /// The same for another server.
    ///
    /// # Errors
    /// As [`Session::crew`].
    pub fn crew_for(
        &self,
        target: &Target,
        count: u64,
        by_poll: bool,
        server: Option<Server>,
    ) -> Result<Crew, Failure> {
        Crew::start(&self.plan(target, count, by_poll, server))
    }

    fn plan<'p>(&'p self, target: &'p Target, count: u64, by_poll: bool, server: Option<Server>) -> Plan<'p> {
        Plan {
            name: "clients",
            target,
            opening: opening(target, &self.common.header, self.common.deflate, self.dialect.as_ref()),
            connections: count,
            threads: self.common.threads,
            table: self.ground.table,
            cores: self.common.cores.as_ref().map_or(&[], |it| &it.0),
            from: &self.ground.from,
            message: self.common.size,
            by_poll,
            listens: true,
            server,
        }
    }

    /// The crowd of a mode that measures something else than connecting.
    ///
    /// # Errors
    /// Not all came to stand.
    pub fn assemble(&self, crew: &mut Crew, out: &mut Outcome) -> Result<(), Failure> {
        let rate = self.common.connect_rate as f64;
        out.connect = Some(crew.join(self.common.connections, Some(rate)));
        all_stand(out.connect.as_ref())
    }

    /// Notes how the tool itself fared, and judges it.
    ///
    /// # Errors
    /// The server let clients go that stood. Where some read no more (`slow`, `fanout --slow-percent`), that is a
    /// finding as long as others stand.
    pub fn close(&self, crew: &mut Crew, out: &mut Outcome) -> Result<(), Failure> {
        crew.tell();
        out.asked.threads = crew.workers();
        out.client.cpu_share = out.client.cpu_share.max(crew.cpu_share);
        out.client.late_us = out.client.late_us.max(crew.late_us);
        let lost: u64 = crew.lost.values().sum();
        let words = crew.loss(&format!("{lost} clients were lost"));
        if lost > 0 {
            out.notes.push(words.clone());
        }
        if self.server.is_some_and(|it| !it.lives()) {
            out.notes.push("the server's process ended during the run".into());
        }
        let is_finding = (out.mode == "slow" || out.fanout_slow.is_some()) && crew.open() > 0;
        if lost > 0 && !is_finding { failed(words) } else { Ok(()) }
    }
}

/// A URL, with the destinations of `--to` in place of its own.
///
/// # Errors
/// As [`Target::read`].
pub fn target(common: &Common, url: &str) -> Result<Target, Failure> {
    let mut target = Target::read(url, &common.tls)?;
    if let Some(to) = &common.to {
        let port = target.port();
        target.addresses = to.0.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
    }
    Ok(target)
}

fn all_stand(connect: Option<&Connect>) -> Result<(), Failure> {
    match connect {
        Some(connect) if connect.connected < connect.asked => {
            let causes: Vec<String> = connect.failed.iter().map(|(cause, count)| format!("{count} {cause}")).collect();
            failed(format!("{} of {} clients stand: {}", connect.connected, connect.asked, causes.join(", ")))
        }
        _ => Ok(()),
    }
}

fn describe(common: &Common, ground: &Ground, out: &mut Outcome) {
    out.machine = watch::machine(ground.nofile);
    out.label = common.label.clone().unwrap_or_else(|| common.url.clone());
    out.asked = Asked {
        url: common.url.clone(),
        connections: common.connections,
        rate: common.rate.map(|it| it as f64),
        size: common.size,
        duration_s: common.duration.as_secs_f64(),
        hold_s: common.hold.as_secs_f64(),
        threads: common.threads,
        server_pid: common.server_pid,
    };
    ground.advice.iter().for_each(|words| eprintln!("edgehold-bench: advice: {words}"));
}

/// How a client of this server opens.
pub fn opening(target: &Target, headers: &[String], deflate: bool, dialect: Option<&Arc<Dialect>>) -> Opening {
    let (speech, tls) = (target.speech, target.tls.clone());
    let request = Arc::from(request(target, headers, deflate, dialect));
    Opening { speech, request, key: KEY, deflate, tls, dialect: dialect.cloned() }
}

fn request(target: &Target, headers: &[String], deflate: bool, dialect: Option<&Arc<Dialect>>) -> Vec<u8> {
    let mut out = Vec::new();
    match target.speech {
        Speech::Bytes => return out,
        Speech::WebSocket => {
            let offer = offer(deflate, dialect.map(Arc::as_ref));
            upgrade::request(&mut out, &target.host, &target.path, KEY, offer);
        }
        Speech::Stream => {
            let lines = format!("GET {} HTTP/1.1\r\nHost: {}\r\n", target.path, target.host);
            out.extend_from_slice(lines.as_bytes());
            out.extend_from_slice(b"Accept: text/event-stream\r\nCache-Control: no-cache\r\n\r\n");
        }
    }
    out.truncate(out.len() - 2);
    headers.iter().for_each(|line| out.extend_from_slice(format!("{}\r\n", line.trim()).as_bytes()));
    out.extend_from_slice(b"\r\n");
    out
}

/// Marks the outcome where the tool was the limit. Connecting counts where it went as fast as it goes.
pub fn judge(out: &mut Outcome) {
    let busiest = out.load.iter().map(|it| it.client_cpu_share).fold(0.0, f64::max);
    let connects = out.mode == "idle" && out.asked.rate.is_none();
    let others = [
        out.connect.as_ref().filter(|_| connects).map(|it| it.client_cpu_share),
        out.fanout.as_ref().map(|it| it.client_cpu_share),
        out.fanout_slow.as_ref().map(|it| it.client_cpu_share),
        out.fanout_again.as_ref().map(|it| it.client_cpu_share),
        out.storm.as_ref().map(|it| it.client_cpu_share),
    ];
    let share = others.into_iter().flatten().fold(busiest, f64::max);
    out.client.cpu_share = share;
    out.client.bottleneck = share > BUSY;
}
