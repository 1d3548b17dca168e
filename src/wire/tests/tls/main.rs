//! TLS: the RFC's own vectors, both ends of the record layer against each other, and each of them against rustls.

mod differential;
mod failures;
mod forger;
mod laws;
mod peers;
mod records;
mod vectors;
