//! Token mode: who may connect, as whom, and for whom.

use rookery::check::link::body;
use rookery::config::Auth;
use rookery::identity::{Grant, issue};
use rookery_wire::codec::Blob;
use rookery_wire::own::{ManageSelf, SelfAck};
use rookery_wire::reply::{Ack, GoAway};
use rookery_wire::request::{Consistency, Hello, Members, Role, Send};
use rookery_wire::{ErrorCode, Kind, UserAction};

use super::fixture::{Cluster, Plan, play};
use super::people::{Wire, contents, device, direct, group, hello, message, turned_away, user};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn now_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs()
}

fn auth(secret: &str) -> Auth {
    toml::from_str(&format!("mode = \"token\"\nsecret = \"{secret}\"")).expect("a section")
}

/// A token as the business backend would sign it.
fn token(secret: &str, who: &str, on: Option<&str>, role: Role, expires_s: u64) -> String {
    issued(secret, who, on, role, (expires_s.saturating_sub(3_600), expires_s))
}

/// One that says when it was issued.
fn issued(
    secret: &str,
    who: &str,
    on: Option<&str>,
    role: Role,
    (issued_s, expires_s): (u64, u64),
) -> String {
    let grant = Grant { user: user(who), device: on.map(device), role, issued_s, expires_s };
    issue(&auth(secret), &grant).expect("signed")
}

fn bearing(who: &str, what: &str, token: &str) -> Hello {
    Hello { token: Blob::from(token), ..hello(who, what) }
}

#[test]
fn only_a_right_token_opens_the_door_and_only_a_service_acts_for_others() {
    play(async {
        let plan = Plan::new(1, 2).with("auth", "mode = \"token\"");
        let cluster = Cluster::up(plan.with("auth", &format!("secret = \"{SECRET}\""))).await;
        let addr = cluster.client(1);
        let soon = now_s() + 600;
        let anns = token(SECRET, "ann", None, Role::User, soon);

        let refused = [
            ("no token", bearing("ann", "phone", ""), ErrorCode::BadToken, "backend"),
            ("no token at all", bearing("ann", "phone", "friend"), ErrorCode::BadToken, "backend"),
            ("unsigned", bearing("ann", "phone", &unsigned()), ErrorCode::BadToken, "backend"),
            (
                "another key",
                bearing("ann", "phone", &token(&SECRET.replace('0', "9"), "ann", None, Role::User, soon)),
                ErrorCode::BadToken,
                "signature",
            ),
            ("one letter changed", bearing("ann", "phone", &forged(&anns)), ErrorCode::BadToken, "backend"),
            (
                "expired",
                bearing("ann", "phone", &token(SECRET, "ann", None, Role::User, now_s() - 60)),
                ErrorCode::TokenExpired,
                "expired",
            ),
            (
                "another's",
                bearing("bob", "phone", &anns),
                ErrorCode::TokenMismatch,
                "for user ann, HELLO says bob",
            ),
            (
                "another device's",
                bearing("ann", "tv", &token(SECRET, "ann", Some("phone"), Role::User, soon)),
                ErrorCode::TokenMismatch,
                "for device phone, HELLO says tv",
            ),
            (
                "a user as a service",
                Hello { role: Role::Service, ..bearing("ann", "phone", &anns) },
                ErrorCode::TokenMismatch,
                "for role user, HELLO says service",
            ),
        ];
        for (what, hello, code, text) in refused {
            let said = turned_away(&addr, &hello, code).await;
            assert!(said.contains(text), "{what}: {said}");
            assert!(!said.contains(&anns) && !said.contains(SECRET), "{what}: secrets are not told: {said}");
        }

        let mut ann = Wire::open(&addr, &bearing("ann", "phone", &anns)).await.expect("welcome");
        let session = direct("ann", "bob");
        ann.send(&session, 1, "from ann").await.expect("acknowledged");
        let as_bob = Send { on_behalf_of: Some(user("bob")), ..message(&session, 2, "as if from bob") };
        let refused = ann.ask::<_, Ack>(Kind::Send, &as_bob).await.expect_err("a user acts for nobody else");
        assert_eq!(refused.code, ErrorCode::Forbidden, "{refused}");
        assert!(refused.message().contains("only a service identity"), "{refused}");
        ann.send(&session, 2, "ann again").await.expect("the number was free");

        for_others(&addr, soon, &mut ann).await;
        ended(&addr, soon, &mut ann).await;
    });
}

/// What a service may do: send and make groups for named users, and no more than they could.
async fn for_others(addr: &str, soon: u64, ann: &mut Wire) {
    let shops = token(SECRET, "shop", None, Role::Service, soon);
    let hello = Hello { role: Role::Service, ..bearing("shop", "backend", &shops) };
    let mut shop = Wire::open(addr, &hello).await.expect("welcome");
    let session = direct("ann", "bob");
    let for_bob = Send { on_behalf_of: Some(user("bob")), ..message(&session, 1, "from bob's backend") };
    let ack: Ack = shop.ask(Kind::Send, &for_bob).await.expect("a service may");
    assert_eq!(ack.seq, 3);
    let for_eve = Send { on_behalf_of: Some(user("eve")), ..message(&session, 2, "from eve") };
    let refused = shop.ask::<_, Ack>(Kind::Send, &for_eve).await.expect_err("eve could not either");
    assert_eq!(refused.code, ErrorCode::Forbidden, "{refused}");
    let team = group("support");
    let users = vec![user("ann")];
    let create = Members { session: team.clone(), client_seq: 1, on_behalf_of: Some(user("bob")), users };
    assert_eq!(shop.ask::<_, Ack>(Kind::CreateGroup, &create).await.expect("a service may").seq, 1);
    let records = ann.pull(&session, Consistency::Linearizable).await.expect("a page");
    assert_eq!(contents(&records), ["from ann", "ann again", "from bob's backend"]);
    assert_eq!(records[2].sender, user("bob"), "in whose name it was sent");
    let listed = ann.sync().await.sessions;
    assert!(listed.iter().any(|line| line.session == team), "{listed:?}");
}

/// Who has a token from before the end of a device does not come in with it, registered anew or not.
async fn ended(addr: &str, soon: u64, ann: &mut Wire) {
    let old = issued(SECRET, "ann", None, Role::User, (now_s(), soon));
    let mut pad = Wire::open(addr, &bearing("ann", "pad", &old)).await.expect("welcome");
    let action = UserAction::EndDevice { device: device("pad") };
    let end = ManageSelf { number: ann.welcome.last_number + 1, on_behalf_of: None, action };
    let ack: SelfAck = ann.ask(Kind::ManageSelf, &end).await.expect("ended");
    assert_eq!(ack.value, 1);
    let away: GoAway = body(&pad.push(Kind::GoAway).await).expect("a GOAWAY");
    assert_eq!(away.code, ErrorCode::DeviceEnded);
    for epoch in [0, pad.welcome.epoch] {
        let again = Hello { epoch, ..bearing("ann", "pad", &old) };
        turned_away(addr, &again, ErrorCode::DeviceEnded).await;
    }
    Wire::open(addr, &bearing("ann", "tv", &old)).await.expect("another device may");
    let new = issued(SECRET, "ann", None, Role::User, (now_s() + 5, soon));
    Wire::open(addr, &bearing("ann", "pad", &new)).await.expect("a later token");
}

/// `{"alg":"none"}` and claims that would be good, without a signature.
fn unsigned() -> String {
    let claims = format!("{{\"sub\":\"ann\",\"exp\":{}}}", now_s() + 600);
    format!("{}.{}.", base64(b"{\"alg\":\"none\",\"typ\":\"JWT\"}"), base64(claims.as_bytes()))
}

/// The same token with one letter of its claims changed.
fn forged(token: &str) -> String {
    let dot = token.find('.').expect("three parts") + 5;
    let other = if token.as_bytes()[dot] == b'A' { 'B' } else { 'A' };
    format!("{}{other}{}", &token[..dot], &token[dot + 1..])
}

/// Base64 for URLs, without padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            out.push(char::from(LETTERS[(word >> (18 - 6 * place)) as usize & 63]));
        }
    }
    out
}
