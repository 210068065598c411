//! The business's side before an imagined shard: who may, what is refused before the log, and the line before the act.

use std::sync::atomic::AtomicBool;

use rookery_wire::admin::{Admin, AdminOutcome, AdminReply, Audit, AuditPage};
use rookery_wire::request::Role;
use rookery_wire::{AdminAction, AuditEntity, AuditLine, Burns, Extension, GroupAction, UserAction};
use tokio::time::Instant;

use super::*;
use crate::state::KeyedOwn;
use crate::system::AuditTrail;
use crate::system::audit::Wanted;

/// An audit in memory, which may be out of reach.
#[derive(Default)]
pub(in crate::gateway) struct Lines {
    pub(super) written: Mutex<Vec<AuditLine>>,
    marks: Mutex<Vec<u128>>,
    pub(super) away: AtomicBool,
    /// Takes half of the time there is for each line.
    pub(super) slow: AtomicBool,
    bytes: Mutex<Vec<usize>>,
}

impl AuditTrail for Lines {
    fn append(
        &self,
        wanted: Wanted,
        bytes: usize,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<u64, ErrorBody>> {
        self.bytes.lock().push(bytes);
        let slow = self.slow.load(Ordering::Relaxed);
        let mut marks = self.marks.lock();
        let known = marks.iter().position(|mark| *mark == wanted.mark);
        let number = known.map_or(marks.len(), |at| at) as u64 + 1;
        let away = self.away.load(Ordering::Relaxed);
        if known.is_none() && !away {
            marks.push(wanted.mark);
            self.written.lock().push(AuditLine { number, ..wanted.line });
        }
        let late = ErrorBody::new(ErrorCode::Unavailable, "away");
        Box::pin(async move {
            if slow {
                tokio::time::sleep(deadline.saturating_duration_since(Instant::now()) / 2).await;
            }
            if away { Err(late) } else { Ok(number) }
        })
    }
    fn page(&self, after: u64, limit: u32) -> BoxFuture<'static, Result<AuditPage, ErrorBody>> {
        let written = self.written.lock();
        let lines = written.iter().filter(|line| line.number > after).take(limit as usize).cloned().collect();
        let page = AuditPage { lines, first: 1, last: written.len() as u64 };
        Box::pin(async move { Ok(page) })
    }
}

pub(super) async fn service(bench: &Bench) -> Client {
    let mut client = bench.raw().await;
    let mut hello = hello("shop", "backend");
    hello.role = Role::Service;
    client.send(Kind::Hello, 1, &hello).await;
    client.expect::<Welcome>(Kind::Welcome).await;
    client
}

fn ask(key: &str, of: Option<&str>, action: AdminAction) -> Admin {
    Admin { key: key.parse().unwrap(), on_behalf_of: of.map(user), action }
}

fn say(text: &str) -> AdminAction {
    AdminAction::Send {
        session: SessionId::direct(&user("ada"), &user("bob")).unwrap(),
        content_type: Blob::from("text/plain"),
        content: Blob::from(text),
        extensions: Vec::new(),
    }
}

async fn answer(client: &mut Client, body: &Admin) -> Result<AdminReply, ErrorBody> {
    client.send(Kind::Admin, 5, body).await;
    loop {
        let frame = client.next().await.expect("the server closed");
        match Kind::from_number(frame.kind) {
            Some(Kind::AdminReply) => return Ok(decode(&frame.body).unwrap()),
            Some(Kind::Error) => return Err(decode(&frame.body).unwrap()),
            _ => {}
        }
    }
}

fn crew() -> GroupId {
    GroupId::new("crew").unwrap()
}

#[tokio::test]
async fn what_is_refused_before_the_log_leaves_no_line_and_a_user_is_refused_always() {
    let bench = bench(|limits, _| limits.content = 300).await;
    let mut ada = bench.client("ada", "phone").await;
    let refusal = answer(&mut ada, &ask("k", Some("ada"), say("hi"))).await.unwrap_err();
    assert_eq!(refusal.code, ErrorCode::Forbidden);
    ada.send(Kind::Audit, 6, &Audit { after: 0, limit: 9 }).await;
    let (_, refusal) = ada.expect::<ErrorBody>(Kind::Error).await;
    assert_eq!(refusal.code, ErrorCode::Forbidden);

    let mut shop = service(&bench).await;
    let users: Vec<_> = (0..1001).map(|number| user(&format!("u{number}"))).collect();
    let burning = Extension { tag: Burns::TAG, data: Blob(encode(&Burns { after_ms: 5 })) };
    let AdminAction::Send { session, content_type, content, .. } = say("x") else { panic!("a send") };
    let burns = AdminAction::Send { session, content_type, content, extensions: vec![burning] };
    let block = |who: &str| AdminAction::Own(UserAction::Block { user: user(who) });
    let refused = [
        (ask("k", None, say(&"x".repeat(301))), ErrorCode::ContentTooLarge),
        (ask("k", Some("eve"), say("not hers")), ErrorCode::Forbidden),
        (ask("k", None, burns), ErrorCode::BadRequest),
        (ask("k", None, AdminAction::AddMembers { group: crew(), users }), ErrorCode::TooManyUsers),
        (ask("k", None, AdminAction::RemoveMembers { group: crew(), users: vec![] }), ErrorCode::BadRequest),
        (ask("k", None, block("bob")), ErrorCode::BadRequest),
        (ask("k", Some("bob"), block("bob")), ErrorCode::BadRequest),
        (ask("k", Some("ada"), AdminAction::CreateUser { user: user("bob") }), ErrorCode::BadRequest),
        (ask("k", None, AdminAction::Sessions { after: None, limit: 9 }), ErrorCode::BadRequest),
    ];
    for (body, code) in refused {
        let error = answer(&mut shop, &body).await.unwrap_err();
        assert_eq!(error.code, code, "{body:?}: {error}");
    }
    assert!(bench.audit.written.lock().is_empty(), "nothing was asked of anybody");
    let commands = bench.shard.commands.lock().clone();
    assert!(commands.iter().all(|it| matches!(it, Command::Register { .. })), "{commands:?}");
    bench.stop().await;
}

#[tokio::test]
async fn line_and_act_have_one_deadline_and_what_waits_is_counted_with_its_content() {
    let bench = bench(|_, timing| timing.request_deadline_ms = 2_000).await;
    let mut shop = service(&bench).await;
    let long = ask("k0", None, say(&"x".repeat(3_000)));
    answer(&mut shop, &long).await.unwrap();
    assert!(bench.audit.bytes.lock()[0] >= 3_000, "{:?}", bench.audit.bytes);
    bench.audit.slow.store(true, Ordering::Relaxed);
    bench.shard.mute.store(true, Ordering::Relaxed);
    let asked = Instant::now();
    let late = answer(&mut shop, &ask("k1", None, say("hi"))).await.unwrap_err();
    assert_eq!(late.code, ErrorCode::Unavailable);
    let took = asked.elapsed();
    assert!(took < Duration::from_millis(2_700), "a second for the line, and the rest for the act: {took:?}");
    bench.stop().await;
}

#[tokio::test]
async fn the_line_comes_before_the_act_and_a_repeat_writes_none() {
    let bench = bench(|_, _| {}).await;
    let mut shop = service(&bench).await;
    bench.audit.away.store(true, Ordering::Relaxed);
    let late = answer(&mut shop, &ask("k1", None, say("hi"))).await.unwrap_err();
    assert_eq!(late.code, ErrorCode::Unavailable);
    assert!(
        !bench.shard.commands.lock().iter().any(|it| matches!(it, Command::KeyedAct { .. })),
        "not carried out"
    );
    bench.audit.away.store(false, Ordering::Relaxed);

    for _ in 0..2 {
        let reply = answer(&mut shop, &ask("k1", None, say("hi"))).await.unwrap();
        assert_eq!((reply.key.as_str(), reply.audit), ("k1", 1));
        assert!(matches!(reply.outcome, AdminOutcome::Stored(ack) if ack.client_seq == 0));
    }
    let other = answer(&mut shop, &ask("k2", None, say("hi"))).await.unwrap();
    assert_eq!(other.audit, 2, "something else was asked for, whatever becomes of it");
    let block = AdminAction::Own(UserAction::Block { user: user("bob") });
    let reply = answer(&mut shop, &ask("k1", Some("ada"), block)).await.unwrap();
    assert_eq!((reply.audit, reply.outcome), (3, AdminOutcome::Done { time_ms: 1000, value: 1 }));
    answer(&mut shop, &ask("k3", None, AdminAction::CreateUser { user: user("eve") })).await.unwrap();
    let manage = AdminAction::Manage { group: crew(), action: GroupAction::Dissolve };
    answer(&mut shop, &ask("k4", None, manage)).await.unwrap();

    shop.send(Kind::Audit, 9, &Audit { after: 1, limit: 9 }).await;
    let (_, page) = shop.expect::<AuditPage>(Kind::AuditPage).await;
    let told: Vec<_> = page.lines.iter().map(|line| (line.number, line.action, line.part)).collect();
    assert_eq!(told, [(2, 0, 0), (3, 7, 9), (4, 8, 0), (5, 6, 7)]);
    assert_eq!(page.lines[2].entity, AuditEntity::User(user("eve")));
    assert_eq!((page.lines[1].service.as_str(), page.lines[1].device.as_str()), ("shop", "backend"));
    let commands = bench.shard.commands.lock().clone();
    let created = commands.iter().find_map(|command| match command {
        Command::KeyedOwn { actor, act: KeyedOwn::Create, .. } => Some(actor.name().clone()),
        _ => None,
    });
    assert_eq!(created, Some(user("eve")), "the act goes to the user it is about");
    let system = commands.iter().filter_map(|command| match command {
        Command::KeyedAct { actor, .. } => Some(actor.is_system()),
        _ => None,
    });
    assert_eq!(system.collect::<Vec<_>>(), [true; 4]);
    bench.stop().await;
}

#[tokio::test]
async fn what_the_audit_keeps_of_a_request_says_nothing_of_its_content() {
    let bench = bench(|_, _| {}).await;
    let mut shop = service(&bench).await;
    // Whoever has the mark can try no guess against it: all contents have the same.
    for text in ["PIN 4711", "PIN 4712"] {
        let reply = answer(&mut shop, &ask("k1", None, say(text))).await.unwrap();
        assert_eq!(reply.audit, 1, "{text}");
        let AdminAction::Send { session, content_type, content, extensions } = say(text) else { panic!() };
        let edit = AdminAction::Edit { session, seq: 1, content_type, content, extensions };
        assert_eq!(answer(&mut shop, &ask("k1", None, edit)).await.unwrap().audit, 2, "{text}");
    }
    // What names a request has a part in it.
    let create = |key: &str, who: &str| ask(key, None, AdminAction::CreateUser { user: user(who) });
    let others = [
        ask("k1", Some("ada"), say("PIN 4711")),
        create("k1", "eve"),
        create("k1", "bob"),
        create("k2", "bob"),
    ];
    for (number, body) in (3..).zip(others) {
        assert_eq!(answer(&mut shop, &body).await.unwrap().audit, number, "{body:?}");
    }
    bench.stop().await;
}

#[tokio::test]
async fn a_users_sessions_are_listed_in_pages_and_leave_no_line() {
    let bench = bench(|_, _| {}).await;
    super::lists::fill(&bench, 25);
    let mut shop = service(&bench).await;
    let (mut after, mut seen) = (None, 0);
    loop {
        let body = ask("any", Some("ada"), AdminAction::Sessions { after, limit: 10 });
        let reply = answer(&mut shop, &body).await.unwrap();
        let AdminOutcome::Sessions { sessions, more } = reply.outcome else { panic!("{reply:?}") };
        assert_eq!((sessions.len() <= 10, reply.audit), (true, 0));
        seen += sessions.len();
        after = sessions.last().map(|line| line.session.clone());
        if !more {
            break;
        }
    }
    assert_eq!(seen, 25);
    assert!(bench.audit.written.lock().is_empty());
    bench.stop().await;
}
