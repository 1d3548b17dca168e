//! Routes in front of brokers, in good/full.toml.

use super::*;

pub fn full_offload(service: &Service) {
    let broker = |host: &str| Upstream::Tcp { host: host.into(), port: 61613, tls: None };
    let permission = |destinations: &[&str], roles: &[&str], publish| Permission {
        destinations: strings(destinations),
        roles: strings(roles),
        publish,
        subscribe: true,
    };
    let keys = OffloadDraft {
        sessions: 2,
        user: Some("edge".into()),
        password_file: Some("broker.pw".into()),
        host: "production".into(),
        share: strings(&["/topic/#"]),
        private: strings(&["/temp-queue/#", "/queue/mine.#"]),
        private_max: 10,
        private_as: PrivateAs::Client,
        private_when: PrivateWhen::Needed,
        permissions: vec![permission(&["/queue/{user}"], &["trader"], true), permission(&["/topic/#"], &[], false)],
        prefetch: 8,
        unconfirmed_bytes: 4 << 20,
        while_down: WhileDown::Refuse,
        missed: Missed::Close,
        missed_rate: 1000,
        heart_beat: Duration::from_secs(30),
        linger: Duration::from_secs(300),
        topics_max: 1000,
        subscribe_rate: 50,
        streams: vec!["/amq/queue/trades".into()],
        tell_gaps: true,
        keep_alive: Duration::ZERO,
        client_id: "edgehold".into(),
        persistent: false,
        stamp: Some("x-user".into()),
        held_bytes: 128 << 20,
        broker_frame_bytes: 8 << 20,
        snapshot_bytes: 1 << 20,
        name_bytes: 256,
        transactions_max: 4,
        retained_bytes: 64 << 20,
        receive_max: 256,
        in_flight_max: 1024,
        topic_aliases_max: 16,
    };
    let expected = Offload {
        upstreams: vec![broker("broker-1"), broker("broker-2")],
        connect_timeout: Duration::from_secs(2),
        user: Some("edge".into()),
        password: Some(Secret::new("secret")),
        snapshot: true,
        subscriptions_max: 16,
        slow_client: SlowClient { policy: Policy::Conflate, max_pending: 512 << 10, max_age: Duration::from_secs(20) },
        keys,
    };
    assert_eq!(*service, Service::Stomp(Box::new(expected)));
}

/// With all that is said of how the broker is asked.
pub fn full_broker_auth(auth: Option<&AuthSettings>) {
    let (remember, refused_remember) = (Duration::from_secs(120), Duration::from_secs(5));
    let broker = BrokerAuthSettings { remember, refused_remember, parallel: 4, wrong_per_minute: 30 };
    let auth = auth.expect("auth");
    assert_eq!((auth.broker, &auth.basic, &auth.jwt, &auth.forward), (Some(broker), &None, &None, &None));
}

/// What is not written is what the reference says.
#[test]
fn a_broker_is_asked_with_few_words() {
    let text = "[[listener]]\nname = \"a\"\naddress = \"127.0.0.1:0\"\n[[route]]\npath = \"/\"\nservice = \"mqtt\"\n\
                upstream = \"tcp://127.0.0.1:1883\"\nauth = { broker = true }\n";
    let config = config::read(text, "x", Path::new("")).unwrap_or_else(|problems| panic!("{}", lines(&problems)));
    let (remember, refused_remember) = (Duration::from_secs(60), Duration::from_secs(10));
    let broker = BrokerAuthSettings { remember, refused_remember, parallel: 8, wrong_per_minute: 60 };
    assert_eq!(config.routes[0].auth.as_deref().and_then(|it| it.broker), Some(broker));
}

pub fn full_mqtt(service: &Service) {
    let Service::Mqtt(offload) = service else { panic!("{service:?}") };
    let keys = &offload.keys;
    assert_eq!((&keys.share, &keys.private), (&strings(&["site/#"]), &strings(&["$SYS/#"])));
    assert_eq!(keys.private_when, PrivateWhen::Never);
    assert_eq!((keys.missed, keys.missed_rate), (Missed::Stay, 200));
    let names = (keys.keep_alive, keys.client_id.as_str(), keys.persistent);
    assert_eq!(names, (Duration::from_secs(300), "edge-1", true));
    let bounds = (keys.retained_bytes, keys.receive_max, keys.in_flight_max, keys.topic_aliases_max);
    assert_eq!(bounds, (1 << 30, 32, 64, 0));
    assert_eq!(
        (offload.subscriptions_max, keys.linger, keys.while_down),
        (64, Duration::from_secs(30), WhileDown::Queue)
    );
}
