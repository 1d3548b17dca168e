//! What a client asks of a broadcast route: the head of its request, and its commands over a WebSocket. Whatever it is,
//! it is refused with words or names channels that can be.
#![no_main]

#[allow(dead_code, reason = "the target makes no forms of it")]
#[path = "../../../src/mesh/message.rs"]
mod message;

/// The part of the mesh that settings need.
mod mesh {
    pub use crate::message::{Body, FeedNumber, Form, Frame};
}

#[path = "../../../src/service/fanout"]
mod fanout {
    #[allow(dead_code, reason = "the target serves nobody")]
    mod settings;
    pub use settings::{FeedSettings, Policy, RouteTerms, Slow, matches};
}

/// The part of the services that settings need.
mod service {
    pub(crate) use crate::fanout;
}

#[path = "../../../src/service/broadcast"]
mod broadcast {
    #[allow(dead_code, reason = "the target answers nothing")]
    pub mod protocol;
    pub mod requests;
    #[allow(dead_code, reason = "the target serves nobody")]
    pub mod settings;
}

mod input;

use broadcast::protocol;
use broadcast::requests::{self, Transport};
use broadcast::settings::{BroadcastPlan, is_channel};
use fanout::{Policy, Slow};
use edgehold_wire::EMPTY_HEADER;
use edgehold_wire::http1::{self, HeadLimits, MAX_HEADERS};
use libfuzzer_sys::fuzz_target;

const LIMITS: HeadLimits = HeadLimits { head_bytes: 512, head_count: 16, target_bytes: 400 };

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let choice = input::byte(&mut data);
    if choice & 1 == 0 {
        command(data);
    } else {
        request(data, &settings(choice & 2 == 0));
    }
});

fn command(text: &[u8]) {
    if let Ok(command) = protocol::command(text) {
        assert!(text.trim_ascii().starts_with(b"{") && text.trim_ascii().ends_with(b"}"));
        assert!(command.subscribe.iter().chain(&command.unsubscribe).all(|it| it.len() <= 6 * text.len()));
    }
}

fn request(bytes: &[u8], settings: &BroadcastPlan) {
    let mut store = [EMPTY_HEADER; MAX_HEADERS];
    let Ok(Some(head)) = http1::read(bytes, &LIMITS, &mut store) else { return };
    let Ok(request) = requests::read(&head, settings, "/feed/") else { return };
    assert!(request.channels.iter().all(|channel| is_channel(channel)));
    assert!(request.last.as_ref().is_none_or(|last| !last.is_empty()));
    assert!(request.transport != Transport::WebSocket || head.has_token("Upgrade", "websocket"));
}

fn settings(channel_in_path: bool) -> BroadcastPlan {
    BroadcastPlan {
        feeds: vec![0],
        channel_in_path,
        channels: Vec::new(),
        roles: Box::default(),
        subscribe: true,
        subscriptions_max: 64,
        changes_max: 256,
        order_bytes: 64 << 10,
        snapshot: false,
        body: mesh::Body::Plain,
        poll_ticks: 100,
        poll_gone: true,
        retry_millis: 3000,
        gap_event: "gap".into(),
        slow: Slow { policy: Policy::Close, max_pending: 1 << 18, max_age_ticks: 40 },
    }
}
