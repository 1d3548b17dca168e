//! Questions and their answers, without a network: each is answered once, nobody holds up another, files that are read
//! again.

use super::super::passwd::{self, Change};
use super::super::settings::{AuthSettings, BasicSettings, JwtSettings, KeySource};
use super::super::stats::Kind;
use super::super::verifiers::{Upkeep, Verifiers};
use super::{LIMITS, PATIENCE, jwt, no_auth, until};
use crate::control::brokers::BrokerSettings;
use crate::mesh::{Answer, Credentials, Denied, Question, Secret, ShardNumber};
use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

/// Verifiers of one route, number 1, and their answers.
pub(super) struct Desk {
    pub(super) verifiers: Verifiers,
    answers: UnboundedReceiver<(ShardNumber, Box<Answer>)>,
    next: u32,
}

impl Desk {
    pub(super) fn new(settings: AuthSettings) -> (Desk, Upkeep) {
        Desk::before(settings, &[])
    }

    /// Of a route in front of a broker.
    pub(super) fn before(settings: AuthSettings, brokers: &[BrokerSettings]) -> (Desk, Upkeep) {
        let (sender, answers) = unbounded_channel();
        let (verifiers, upkeep) = Verifiers::start((&[None, Some(settings)], brokers), LIMITS, sender).unwrap();
        (Desk { verifiers, answers, next: 0 }, upkeep)
    }

    pub(super) fn ask(&mut self, credentials: Credentials) -> u32 {
        self.ask_from(None, credentials)
    }

    /// From a client of this address.
    pub(super) fn ask_from(&mut self, client: Option<IpAddr>, credentials: Credentials) -> u32 {
        let number = self.next;
        self.next += 1;
        self.verifiers.ask(3, Question { number, route: 1, client, credentials });
        number
    }

    /// The next answer, whichever question it is to.
    pub(super) async fn next(&mut self) -> Box<Answer> {
        let (shard, answer) = timeout(PATIENCE, self.answers.recv()).await.expect("an answer").unwrap();
        assert_eq!(shard, 3);
        answer
    }

    /// What is said of these credentials: a name, or why not.
    pub(super) async fn judge(&mut self, credentials: Credentials) -> Result<String, Denied> {
        let number = self.ask(credentials);
        let answer = self.next().await;
        assert_eq!(answer.question, number);
        answer.verdict.map(|it| it.name.to_string()).map_err(|it| it.why)
    }

    pub(super) fn answers_that_are_there(&mut self) -> usize {
        std::iter::from_fn(|| self.answers.try_recv().ok()).count()
    }
}

pub(super) fn token(text: &str) -> Credentials {
    Credentials::Token(Secret::new(text))
}

pub(super) fn password(user: &str, password: &str) -> Credentials {
    Credentials::Basic { user: user.into(), password: Secret::new(password) }
}

fn good(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ci/config/good/auth").join(name)
}

fn basic(users: PathBuf) -> AuthSettings {
    let basic = BasicSettings { users, realm: "x".into(), remember: Duration::from_secs(60) };
    AuthSettings { basic: Some(basic), ..no_auth() }
}

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/control/auth/tests/vectors.jwks")
}

fn of(algorithm: &str) -> &'static str {
    let tokens = include_str!("vectors.txt").lines();
    tokens.filter_map(|line| line.split_once(' ')).find(|(its, _)| *its == algorithm).expect(algorithm).1
}

#[tokio::test]
async fn passwords_by_argon2_and_by_crypt_of_another_are_right_and_others_are_not() {
    let (mut desk, _upkeep) = Desk::new(basic(good("users")));
    assert_eq!(desk.judge(password("alice", "wonderland")).await, Ok("alice".into()));
    assert_eq!(desk.judge(password("bob", "builder")).await, Ok("bob".into()));
    assert_eq!(desk.judge(password("carol", "wonderland")).await, Ok("carol".into()));
    for (user, word) in [("alice", "Wonderland"), ("carol", "wonderlan"), ("alice", ""), ("dave", "wonderland")] {
        assert_eq!(desk.judge(password(user, word)).await, Err(Denied::Password), "{user} {word}");
    }
    assert_eq!(desk.judge(password("alice", &"w".repeat(5000))).await, Err(Denied::Password));
    desk.ask(password("alice", "wonderland"));
    let answer = desk.next().await;
    assert_eq!((answer.keep, answer.verdict.unwrap().roles.len()), (60, 2));
    let stats = desk.verifiers.stats();
    assert_eq!(stats.asked(Kind::Basic), 9);
    assert_eq!(
        stats.verdicts(Kind::Basic).filter(|(_, count)| *count > 0).collect::<Vec<_>>(),
        [("admitted", 4), ("password", 5)]
    );
}

#[tokio::test]
async fn what_nobody_can_be_asked_about_is_unavailable() {
    let (mut desk, _upkeep) = Desk::new(basic(good("users")));
    assert_eq!(desk.judge(token("x")).await, Err(Denied::Unavailable));
    for route in [0, 2, u16::MAX] {
        desk.verifiers.ask(3, Question { number: 7, route, client: None, credentials: token("x") });
        assert_eq!(desk.next().await.verdict.unwrap_err().why, Denied::Unavailable);
    }
    let (mut desk, _upkeep) = Desk::new(basic(good("none")));
    assert_eq!(desk.judge(password("alice", "wonderland")).await, Err(Denied::Unavailable));
    assert!(desk.verifiers.stats().sources[0].why().unwrap().contains("cannot be read"));
}

/// Wrong passwords as fast as they come: so many as wait are answered, the others are told that it is too much, and a
/// token beside them waits for none of them.
#[tokio::test]
async fn wrong_passwords_as_fast_as_they_come_hold_up_no_token() {
    const FLOOD: u32 = 200;
    let settings = AuthSettings { jwt: Some(jwt(KeySource::File(vectors()))), ..basic(good("users")) };
    let (mut desk, _upkeep) = Desk::new(settings);
    let flood: Vec<u32> = (0..FLOOD).map(|it| desk.ask(password(&format!("user{it}"), "wrong"))).collect();
    let number = desk.ask(token(of("ES256")));
    let (mut answered, mut why, mut before) = (BTreeSet::new(), Vec::new(), None);
    for _ in 0..=FLOOD {
        let answer = desk.next().await;
        assert!(answered.insert(answer.question), "{} is answered twice", answer.question);
        match answer.verdict {
            Ok(identity) => {
                assert_eq!((answer.question, &*identity.name), (number, "alice"));
                before = Some(why.iter().filter(|it| **it == Denied::Password).count());
            }
            Err(denial) => why.push(denial.why),
        }
    }
    assert_eq!((answered.len(), flood.len()), (201, 200));
    let wrong = why.iter().filter(|it| **it == Denied::Password).count();
    assert!(why.iter().all(|it| matches!(it, Denied::Password | Denied::Busy)));
    // Those in the queue, and those that a thread took from it meanwhile.
    assert!((LIMITS.password_queue as usize..FLOOD as usize / 2).contains(&wrong), "{wrong}");
    assert!(before.expect("the token is good") < wrong, "the token has waited for {before:?} of {wrong}");
    let stats = desk.verifiers.stats();
    assert_eq!((stats.waiting(Kind::Basic), desk.answers_that_are_there()), (0, 0));
}

/// The queue of passwords is not one client's to fill: another who comes behind it is answered.
#[tokio::test]
async fn wrong_passwords_of_one_address_keep_out_nobody_else() {
    let (mut desk, _upkeep) = Desk::new(basic(good("users")));
    let [hostile, other] = ["192.0.2.1", "192.0.2.2"].map(|it| it.parse().ok());
    for it in 0..50 {
        desk.ask_from(hostile, password(&format!("user{it}"), "wrong"));
    }
    let number = desk.ask_from(other, password("alice", "wonderland"));
    let (mut busy, mut admitted) = (0, false);
    for _ in 0..=50 {
        let answer = desk.next().await;
        busy += u32::from(answer.verdict.as_ref().is_err_and(|it| it.why == Denied::Busy));
        admitted |= answer.question == number && answer.verdict.is_ok();
    }
    assert!(admitted && busy >= 40, "{busy} of the hostile client's were sent away at once");
    assert_eq!(desk.judge(password("alice", "wonderland")).await, Ok("alice".into()));
}

/// Who has waited too long is not worked for.
#[tokio::test]
async fn a_question_that_is_late_is_unavailable() {
    let settings = AuthSettings { timeout: Duration::ZERO, ..basic(good("users")) };
    let (mut desk, _upkeep) = Desk::new(settings);
    assert_eq!(desk.judge(password("alice", "wonderland")).await, Err(Denied::Unavailable));
}

#[tokio::test]
async fn a_token_is_remembered_no_longer_than_it_lasts() {
    let remembered =
        |remember| AuthSettings { jwt: Some(JwtSettings { remember, ..jwt(KeySource::File(vectors())) }), ..no_auth() };
    let (mut desk, _upkeep) = Desk::new(remembered(Duration::from_secs(300)));
    for algorithm in ["HS256", "PS512", "EdDSA"] {
        desk.ask(token(of(algorithm)));
        assert_eq!(desk.next().await.keep, 300);
    }
    let (mut desk, _upkeep) = Desk::new(remembered(Duration::from_secs(1 << 40)));
    desk.ask(token(of("HS256")));
    let answer = desk.next().await;
    let left = answer.verdict.unwrap().expires.unwrap() - super::super::stats::unix();
    assert!(u64::from(answer.keep).abs_diff(left) <= 2, "{} {left}", answer.keep);
}

#[tokio::test]
async fn a_file_is_read_again_when_told_and_the_last_good_one_stays() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users");
    let set = |name: &str, word: &str| passwd::change(&file, name, &Change::Set(word, None)).unwrap();
    set("ann", "one");
    let (mut desk, upkeep) = Desk::new(basic(file.clone()));
    let state = desk.verifiers.stats().sources[0].clone();
    let orders = Arc::<Notify>::default();
    tokio::spawn(upkeep.keep(orders.clone()));
    set("ann", "two");
    assert_eq!(desk.judge(password("ann", "one")).await, Ok("ann".into()), "nobody has said so");
    orders.notify_one();
    until("read again", || state.good.get() == 2).await;
    assert_eq!(desk.judge(password("ann", "one")).await, Err(Denied::Password));
    for (failures, broken) in (1..).zip([Some("ann\n"), Some("\u{feff}"), None]) {
        match broken {
            Some(text) => fs::write(&file, text).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        orders.notify_one();
        until("refused", || state.failures.get() == failures).await;
        assert!(state.why().is_some());
        assert_eq!(desk.judge(password("ann", "two")).await, Ok("ann".into()));
    }
    set("bob", "three");
    orders.notify_one();
    until("read again", || state.good.get() == 3).await;
    assert_eq!((state.why(), state.entries.get()), (None, 1));
    assert_eq!(desk.judge(password("ann", "two")).await, Err(Denied::Password));
}
