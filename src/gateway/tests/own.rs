//! What is the user's own, before an imagined shard: sizes, what is asked of sessions, masks, pages that fit.

use rookery_wire::own::{ListRelations, ManageSelf, RelationFilter, RelationPage, SelfAck, Settings};
use rookery_wire::reply::SyncPage;
use rookery_wire::request::{Consistency, Direction, Pull, Sync};
use rookery_wire::{SessionSetting, UserAction};

use super::lists::{fill, listed};
use super::*;
use crate::state::{Given, PartOf, ReadTo};

fn manage(number: u64, action: UserAction) -> ManageSelf {
    ManageSelf { number, on_behalf_of: None, action }
}

async fn answer<T: Encode>(client: &mut Client, kind: Kind, body: &T) -> Frame {
    client.send(kind, 5, body).await;
    loop {
        let frame = client.next().await.expect("the server closed");
        if frame.request_id == 5 {
            return frame;
        }
    }
}

async fn asked<T: Encode, A: bincode::Decode<Source>>(client: &mut Client, kind: Kind, body: &T) -> A {
    decode(&answer(client, kind, body).await.body).unwrap()
}

async fn refusal<T: Encode>(client: &mut Client, kind: Kind, body: &T) -> ErrorBody {
    let frame = answer(client, kind, body).await;
    assert_eq!(Kind::from_number(frame.kind), Some(Kind::Error), "{frame:?}");
    decode(&frame.body).unwrap()
}

#[tokio::test]
async fn an_act_is_judged_in_size_and_brings_what_the_session_says() {
    let bench = bench(|limits, _| limits.draft_bytes = 5).await;
    let mut client = bench.client("ada", "phone").await;
    let session = SessionId::direct(&user("ada"), &user("bob")).unwrap();
    let draft = |text: &str| UserAction::SetSession {
        session: session.clone(),
        setting: SessionSetting::Draft(Blob::from(text)),
    };
    let range = |from_seq, to_seq| UserAction::DeleteMessages { session: session.clone(), from_seq, to_seq };
    let refused = [
        manage(0, draft("ok")),
        manage(1, range(0, 3)),
        manage(1, range(4, 3)),
        manage(1, UserAction::Block { user: user("ada") }),
    ];
    for body in refused {
        let error = refusal(&mut client, Kind::ManageSelf, &body).await;
        assert_eq!(error.code, ErrorCode::BadRequest, "{body:?}: {error}");
    }
    let refused = refusal(&mut client, Kind::ManageSelf, &manage(1, draft("longer"))).await;
    assert_eq!((refused.code, refused.detail), (ErrorCode::DraftTooLarge, 5));
    let theirs = SessionId::direct(&user("bob"), &user("cid")).unwrap();
    let clear = UserAction::ClearSession { session: theirs, seq: 1 };
    assert_eq!(refusal(&mut client, Kind::ManageSelf, &manage(1, clear)).await.code, ErrorCode::Forbidden);
    let for_bob = ManageSelf { on_behalf_of: Some(user("bob")), ..manage(1, draft("ok")) };
    assert_eq!(refusal(&mut client, Kind::ManageSelf, &for_bob).await.code, ErrorCode::Forbidden);
    assert!(bench.shard.commands.lock().iter().all(|it| !matches!(it, Command::UserAct { .. })));

    let ack: SelfAck = asked(&mut client, Kind::ManageSelf, &manage(8, range(3, 9))).await;
    assert_eq!((ack.number, ack.value), (8, 1));
    let last = bench.shard.commands.lock().last().cloned();
    let Some(Command::UserAct { act, .. }) = last else { panic!("{last:?}") };
    assert_eq!(act.given, Given::Range { before: 2, count: 9 }, "as the session counts");
    // Number 7 was used: what is unread now is no part of the answer.
    let _: SelfAck = asked(&mut client, Kind::ManageSelf, &manage(7, UserAction::ReadAll)).await;
    let last = bench.shard.commands.lock().last().cloned();
    let Some(Command::UserAct { act, .. }) = last else { panic!("{last:?}") };
    assert_eq!(act.given, Given::Nothing);
    let list = ListRelations { on_behalf_of: None, which: RelationFilter::All, after: None, limit: 9 };
    let page: RelationPage = asked(&mut client, Kind::ListRelations, &list).await;
    assert!(page.refuses_strangers);
    bench.stop().await;
}

#[tokio::test]
async fn reading_everything_asks_sessions_where_they_stand() {
    let bench = bench(|_, _| {}).await;
    fill(&bench, 700);
    let pair = SessionId::direct(&user("ada"), &user("bob")).unwrap();
    bench.shard.heads.lock().insert(pair.clone(), 3);
    bench.shard.list.lock().push(listed(pair.clone()));
    let mut client = bench.client("ada", "phone").await;
    let _: SelfAck = asked(&mut client, Kind::ManageSelf, &manage(8, UserAction::ReadAll)).await;
    let commands = bench.shard.commands.lock().clone();
    let moved: Vec<Vec<ReadTo>> = commands
        .iter()
        .filter_map(|command| match command {
            Command::ReadMany { of, cursors, .. } => {
                let PartOf::CountedNumber { actor, number: 8, unread } = of else { panic!("{of:?}") };
                assert!(actor.user == user("ada") && *unread > 700, "{of:?}");
                Some(cursors.clone())
            }
            Command::UserAct { act, .. } => match &act.given {
                Given::Heads { cursors, unread } => {
                    assert!(*unread > 700, "all of them, {unread}");
                    Some(cursors.clone())
                }
                other => panic!("{other:?}"),
            },
            _ => None,
        })
        .collect();
    let sizes: Vec<usize> = moved.iter().map(Vec::len).collect();
    assert_eq!(sizes, [500, 201], "no command is larger than its bound");
    let of_pair = moved.iter().flatten().find(|to| to.session == pair).expect("a cursor");
    assert!(of_pair.burns && of_pair.seq == 3, "what waits to be read is told that it is");
    assert!(moved.iter().flatten().all(|to| !to.burns || to.session == pair));
    bench.stop().await;
}

#[tokio::test]
async fn a_page_of_long_drafts_ends_where_a_frame_does() {
    let bench = bench(|limits, _| limits.frame = 32 << 10).await;
    for number in 1..=20u64 {
        let session = SessionId::group(GroupId::new(&format!("g{number}")).unwrap());
        bench.shard.heads.lock().insert(session.clone(), number);
        bench.shard.list.lock().push(UserSession { is_set: true, ..listed(session.clone()) });
        let draft = Blob(Bytes::from(vec![b'x'; 4096]));
        bench.shard.settings.lock().insert(session, Settings { draft, ..Settings::default() });
    }
    let mut client = bench.client("ada", "phone").await;
    let (mut after, mut seen, mut pages) = (Blob::default(), Vec::new(), 0);
    loop {
        let page: SyncPage =
            asked(&mut client, Kind::Sync, &Sync { after, limit: 200, since: Blob::default() }).await;
        assert_eq!(page.badge.is_some(), pages == 0, "on the first page");
        assert!(page.sessions.iter().all(|line| line.settings.draft.len() == 4096));
        seen.extend(page.sessions.into_iter().map(|line| line.last_seq));
        pages += 1;
        after = page.next;
        if after.is_empty() {
            break;
        }
    }
    assert_eq!(seen, (1..=20).rev().collect::<Vec<u64>>(), "each once, newest first");
    assert_eq!(pages, 3);
    bench.stop().await;
}

#[tokio::test]
async fn a_pull_does_not_show_what_was_deleted() {
    let bench = bench(|_, _| {}).await;
    bench.shard.page_bytes.store(10, Ordering::Relaxed);
    let mut client = bench.client("ada", "phone").await;
    let session = SessionId::group(GroupId::new("g").unwrap());
    let pull = Pull {
        session: session.clone(),
        from_seq: 1,
        direction: Direction::Forward,
        max_count: 9,
        max_bytes: 1 << 20,
        consistency: Consistency::Linearizable,
    };
    let page: Page = asked(&mut client, Kind::Pull, &pull).await;
    assert_eq!(page.records[0].content.len(), 10);
    let set = Settings { deleted: vec![(1, 1)], ..Settings::default() };
    bench.shard.settings.lock().insert(session.clone(), set);
    for consistency in [Consistency::Linearizable, Consistency::AtLeast(1)] {
        let page: Page = asked(&mut client, Kind::Pull, &Pull { consistency, ..pull.clone() }).await;
        let record = &page.records[0];
        assert_eq!((record.seq, record.kind, record.content.len()), (1, RecordKind::DELETED, 0));
    }
    let set = Settings { cleared_seq: 1, ..Settings::default() };
    bench.shard.settings.lock().insert(session, set);
    let page: Page = asked(&mut client, Kind::Pull, &pull).await;
    assert_eq!((page.records.len(), page.first_seq, page.last_seq), (0, 2, 1));
    bench.stop().await;
}
