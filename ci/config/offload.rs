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
        permissions: vec![permission(&["/queue/{user}"], &["trader"], true), permission(&["/topic/#"], &[], false)],
        prefetch: 8,
        unconfirmed_bytes: 4 << 20,
        while_down: WhileDown::Refuse,
        heart_beat: Duration::from_secs(30),
        linger: Duration::from_secs(300),
        topics_max: 1000,
        subscribe_rate: 50,
        tell_gaps: true,
        keep_alive: Duration::ZERO,
        client_id: "edgehold".into(),
        persistent: false,
        held_bytes: 128 << 20,
        broker_frame_bytes: 8 << 20,
        snapshot_bytes: 1 << 20,
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

pub fn full_mqtt(service: &Service) {
    let Service::Mqtt(offload) = service else { panic!("{service:?}") };
    let keys = &offload.keys;
    assert_eq!((&keys.share, &keys.private), (&strings(&["site/#"]), &strings(&["$SYS/#"])));
    let names = (keys.keep_alive, keys.client_id.as_str(), keys.persistent);
    assert_eq!(names, (Duration::from_secs(300), "edge-1", true));
    let bounds = (keys.retained_bytes, keys.receive_max, keys.in_flight_max, keys.topic_aliases_max);
    assert_eq!(bounds, (1 << 30, 32, 64, 0));
    assert_eq!(
        (offload.subscriptions_max, keys.linger, keys.while_down),
        (64, Duration::from_secs(30), WhileDown::Queue)
    );
}
