//! Who clients are: what CONNECT shows is asked about once, and what is found out is said of what they publish.

use super::*;
use edgehold::mesh::{Answer, Credentials, Denial, Denied, Identity, Question};
use edgehold::service::gate::{AuthPlan, ForwardPlan, TokenPlan};

const NOBODY: AuthPlan =
    AuthPlan { late: true, certificate: None, token: None, basic: None, forward: None, broker: false };

fn asking(auth: AuthPlan, seed: u64) -> Stage {
    let gate = GatePlan { auth: Some(auth), ..GatePlan::default() };
    gated(OffloadPlan { auth: true, stamp: Some("x-user".into()), ..plan() }, Arc::new(gate), seed, KIND)
}

fn by_broker() -> AuthPlan {
    AuthPlan { broker: true, ..NOBODY }
}

/// A client that has sent CONNECT.
fn shows(stage: &mut Stage, login: &str, passcode: &str) -> End {
    let client = End::new(stage.shard.ring().arrive(0));
    let mut headers = vec![("accept-version", "1.2"), ("host", "/")];
    headers.extend([("login", login), ("passcode", passcode)].iter().filter(|it| !it.1.is_empty()));
    client.say(stage, Command::Connect, &headers, b"");
    client
}

/// What the shard asks, since this was called last.
fn questions(stage: &mut Stage) -> Vec<Question> {
    let mut asked = Vec::new();
    for _ in 0..100 {
        stage.turn();
        while let Some(letter) = stage.to_control.take() {
            if let ToControl::Question(question) = letter {
                asked.push(*question);
            }
        }
    }
    asked
}

fn question(stage: &mut Stage) -> Question {
    let mut asked = questions(stage);
    assert_eq!(asked.len(), 1, "{asked:?}");
    asked.remove(0)
}

fn pair(question: &Question) -> (&str, &str) {
    let Credentials::Basic { user, password } = &question.credentials else { panic!("{question:?}") };
    (user, password.reveal())
}

fn answer(stage: &mut Stage, question: &Question, verdict: Result<&str, Denied>, keep: u32) {
    let identity =
        |name: &str| Arc::new(Identity { name: name.into(), roles: [].into(), claims: [].into(), expires: None });
    let verdict = verdict.map(identity).map_err(Denial::new);
    let answer = Answer { question: question.number, verdict, keep };
    stage.letters.post(ToShard::Answer(Box::new(answer))).expect("the shard reads its letters");
}

/// The first frame that a client hears.
fn hears(stage: &mut Stage, client: &mut End) -> Heard {
    let mut broker = Broker::new();
    until(stage, &mut broker, &mut [client], |clients, _| !clients[0].heard.is_empty());
    client.heard.remove(0)
}

#[test]
fn many_who_show_the_same_are_asked_about_once() {
    let mut stage = asking(by_broker(), 1);
    let mut clients: Vec<End> = (0..20).map(|_| shows(&mut stage, "ann", "secret")).collect();
    let asked = question(&mut stage);
    assert_eq!((pair(&asked), asked.route), (("ann", "secret"), 0));
    for client in &mut clients {
        client.step(&mut stage);
        assert_eq!(client.heard, [], "nobody is let in before it is known");
    }
    answer(&mut stage, &asked, Ok("ann"), 60);
    for client in &mut clients {
        assert_eq!(hears(&mut stage, client).command, Command::Connected);
    }
    let mut later = shows(&mut stage, "ann", "secret");
    assert_eq!(hears(&mut stage, &mut later).command, Command::Connected);
    assert_eq!(questions(&mut stage).len(), 0, "it is remembered");
}

#[test]
fn who_is_wrong_hears_so_and_who_cannot_be_asked_about_is_to_try_again() {
    let mut stage = asking(by_broker(), 2);
    for why in [Denied::Unavailable, Denied::Busy, Denied::Rate] {
        let mut client = shows(&mut stage, "ann", "secret");
        let asked = question(&mut stage);
        answer(&mut stage, &asked, Err(why), 0);
        let error = hears(&mut stage, &mut client);
        assert_eq!(
            (error.command, error.get("message")),
            (Command::Error, "nobody can say now who you are; try again")
        );
    }
    let mut client = shows(&mut stage, "ann", "secret");
    let asked = question(&mut stage);
    answer(&mut stage, &asked, Ok("ann"), 60);
    assert_eq!(hears(&mut stage, &mut client).command, Command::Connected, "nothing of it is remembered");
    let mut wrong = shows(&mut stage, "ann", "Secret");
    let asked = question(&mut stage);
    answer(&mut stage, &asked, Err(Denied::Password), 60);
    let worthless = "these credentials are worth nothing here";
    assert_eq!(hears(&mut stage, &mut wrong).get("message"), worthless);
    let mut again = shows(&mut stage, "ann", "Secret");
    assert_eq!(hears(&mut stage, &mut again).get("message"), worthless);
    assert_eq!(questions(&mut stage).len(), 0, "it is remembered");
}

/// Of what clients say of themselves under the name of the stamp nothing comes through.
#[test]
fn the_broker_is_told_who_has_published_and_only_the_edge_says_so() {
    let (mut stage, mut broker) = (asking(by_broker(), 3), Broker::new());
    for (login, passcode, name, stamps) in [("ann", "secret", "ann", &["ann"][..]), ("", "", "", &[][..])] {
        let mut client = shows(&mut stage, login, passcode);
        let asked = question(&mut stage);
        assert_eq!(pair(&asked), (login, passcode));
        answer(&mut stage, &asked, Ok(name), 60);
        assert_eq!(hears(&mut stage, &mut client).command, Command::Connected);
        let forged =
            [("destination", "/queue/a"), ("X-User", "root"), ("x-user", "root"), ("receipt", "r"), ("k", "v")];
        client.say(&mut stage, Command::Send, &forged, b"x");
        until(&mut stage, &mut broker, &mut [&mut client], |clients, _| clients[0].first(Command::Receipt).is_some());
        let sent = broker.heard(Command::Send).pop().expect("a SEND").clone();
        let said = |it: &&(String, String)| it.0.eq_ignore_ascii_case("x-user");
        assert_eq!(sent.headers.iter().filter(said).map(|it| it.1.as_str()).collect::<Vec<_>>(), stamps);
        assert_eq!(sent.get("k"), "v");
    }
}

#[test]
fn another_server_is_shown_a_name_and_a_password_as_a_field() {
    let keys = ["authorization".into()].into();
    let forward = ForwardPlan { fields: ["authorization".into()].into(), keys, open: None };
    let mut stage = asking(AuthPlan { forward: Some(forward), ..NOBODY }, 4);
    let fields = |question: &Question| {
        let Credentials::Request(request) = &question.credentials else { panic!("{question:?}") };
        assert_eq!((&*request.method, &*request.target), ("GET", "/stomp"));
        request.fields.iter().map(|it| format!("{}: {}", it.0, String::from_utf8_lossy(&it.1))).collect::<Vec<_>>()
    };
    let mut clients = [shows(&mut stage, "Aladdin", "open sesame"), shows(&mut stage, "Aladdin", "open sesame")];
    let asked = question(&mut stage);
    assert_eq!(fields(&asked), ["authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="]);
    answer(&mut stage, &asked, Ok("Aladdin"), 60);
    for client in &mut clients {
        assert_eq!(hears(&mut stage, client).command, Command::Connected);
    }
    // A name with a colon would be another's.
    let mut odd = shows(&mut stage, "Aladdin:open", "sesame");
    assert_eq!(hears(&mut stage, &mut odd).command, Command::Error);
    let mut nobody = shows(&mut stage, "", "");
    let asked = question(&mut stage);
    assert!(fields(&asked).is_empty());
    answer(&mut stage, &asked, Err(Denied::Forward), 2);
    assert_eq!(hears(&mut stage, &mut nobody).command, Command::Error);
}

#[test]
fn a_password_that_looks_like_a_token_is_one_where_tokens_are_taken() {
    let token = TokenPlan { header: true, cookie: None, query: None, subprotocol: None, token_bytes: 64 };
    let mut stage = asking(AuthPlan { token: Some(token), ..by_broker() }, 5);
    shows(&mut stage, "ann", "ey.x.y");
    assert!(matches!(&question(&mut stage).credentials, Credentials::Token(it) if it.reveal() == "ey.x.y"));
    shows(&mut stage, "ann", "secret");
    assert_eq!(pair(&question(&mut stage)), ("ann", "secret"));
    let mut stage = asking(by_broker(), 6);
    shows(&mut stage, "ann", "ey.x.y");
    assert_eq!(pair(&question(&mut stage)), ("ann", "ey.x.y"));
}
