//! The server's own counters, from its admin address: read before and after, so that the tool's sums can be held
//! against the server's.

use crate::failure::{Failure, failed, mistaken};
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);

/// An admin address (`http://127.0.0.1:9180`).
#[derive(Clone, Debug)]
pub struct Admin {
    host: String,
}

/// One reading of `/metrics`.
#[derive(Clone, Debug)]
pub struct Metrics(String);

impl Admin {
    /// Reads the URL, and the metrics once.
    ///
    /// # Errors
    /// It is no http URL, or nobody answers there.
    pub fn find(url: &str) -> Result<Admin, Failure> {
        let Some(rest) = url.strip_prefix("http://") else {
            return mistaken(format!("--admin {url}: write http://HOST:PORT"));
        };
        let admin = Admin { host: rest.trim_end_matches('/').to_owned() };
        match admin.metrics() {
            Ok(_) => Ok(admin),
            Err(failure) => mistaken(format!("--admin {url}: {failure}")),
        }
    }

    /// The metrics now.
    ///
    /// # Errors
    /// Nobody answers, or with something else than 200.
    pub fn metrics(&self) -> Result<Metrics, Failure> {
        match self.get("/metrics") {
            Ok(text) if text.starts_with("HTTP/1.1 200") => Ok(Metrics(text)),
            Ok(text) => failed(format!("answered {}", text.lines().next().unwrap_or("nothing"))),
            Err(error) => failed(error.to_string()),
        }
    }

    fn get(&self, path: &str) -> std::io::Result<String> {
        let address = self.host.to_socket_addrs()?.next().ok_or(std::io::ErrorKind::AddrNotAvailable)?;
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.host)?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }
}

impl Metrics {
    /// The sum of all series of this name whose labels hold all of `labels` (`service="echo"`).
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let series = self.0.lines().filter_map(|line| line.strip_prefix(name));
        let wanted =
            series.filter(|rest| rest.starts_with([' ', '{']) && labels.iter().all(|label| rest.contains(label)));
        wanted.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Resident memory of the server, as it tells.
    pub fn resident_bytes(&self) -> Option<u64> {
        let bytes = self.sum("edgehold_resident_memory_bytes", &[]);
        (bytes > 0.0).then_some(bytes as u64)
    }

    /// Whether the server tells how many clients are parked, and if so how many are not yet.
    pub fn unparked(&self) -> Option<f64> {
        let all = self.sum("edgehold_connections", &[]);
        self.0.contains("edgehold_connections{").then(|| all - self.sum("edgehold_connections", &["state=\"parked\""]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_name_and_label() {
        let text = "HTTP/1.1 200 OK\r\n\r\na_total{x=\"1\"} 2\na_total{x=\"2\"} 3\na_total_more 9\na 7\n";
        let metrics = Metrics(text.into());
        assert_eq!(metrics.sum("a_total", &[]), 5.0);
        assert_eq!(metrics.sum("a_total", &["x=\"2\""]), 3.0);
        assert_eq!(metrics.sum("a", &[]), 7.0);
        assert_eq!(metrics.unparked(), None);
    }
}
