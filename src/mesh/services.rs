//! The list of services: the one place that names them all.
//!
//! A service is a file or a folder below src/service with a type that implements its trait `Service`, and a line here.
//! docs/HACKING.md tells what else it needs.

/// Hands the list to a macro: for each service its type, its module below `service`, its word in the configuration,
/// metrics and logs, and what it does.
macro_rules! services {
    ($macro:path) => {
        $macro! {
            Echo echo "echo" "Messages come back.",
            Proxy proxy "proxy" "Each client has a connection of its own to an upstream.",
            Files files "files" "Files below a folder.",
            Page page "page" "The built-in demo page.",
            Broadcast broadcast "broadcast" "What feeds publish.",
            Stomp stomp "stomp" "Clients of a STOMP broker, over a handful of sessions.",
            Mqtt mqtt "mqtt" "Clients of an MQTT broker, over a handful of sessions.",
        }
    };
}

pub(crate) use services;

macro_rules! kinds {
    ($($name:ident $module:ident $word:literal $about:literal,)*) => {
        super::counters::labels! {
            /// What serves a connection.
            ServiceKind {
                /// Nothing yet: no request head has come.
                None = "none",
                $(#[doc = $about] $name = $word,)*
            }
        }
    };
}

services!(kinds);
