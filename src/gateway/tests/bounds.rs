//! One client, however it behaves, holds a bounded amount and slows nobody else.

use rookery_wire::group::ManageGroup;
use rookery_wire::join::JoinGroup;
use rookery_wire::live::{Ephemeral, Passing as Said, SessionPresence, Watch, WatchMode, WatchSession};
use rookery_wire::own::ManageSelf;
use rookery_wire::reply::{Lagged, Left};
use rookery_wire::request::{Consistency, Delivered, Direction, Members, Pull};
use rookery_wire::{Extension, GroupAction, SessionSetting, UserAction};

use super::*;

fn held(bench: &Bench, name: &str) -> usize {
    let core = &bench.gateway.core;
    core.devices.iter().find(|entry| entry.key().0 == user(name)).map_or(0, |entry| entry.out.bytes())
}

#[tokio::test]
async fn beyond_the_window_nothing_more_is_read() {
    let bench = bench(|limits, _| limits.window = 8).await;
    let mut client = bench.client("ada", "phone").await;
    bench.shard.mute.store(true, Ordering::Relaxed);
    for number in 1..=100u64 {
        client.send(Kind::Send, number as u32, &send(&group("g"), number, b"x")).await;
    }
    until("the window is full", || bench.shard.taken.lock().len() == 8).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(bench.shard.taken.lock().len(), 8, "read beyond the window");
    // Each answer lets another request in, in order.
    bench.shard.mute.store(false, Ordering::Relaxed);
    let taken = std::mem::take(&mut *bench.shard.taken.lock());
    bench.shard.submit(1, taken);
    for number in 1..=100 {
        let (frame, ack) = client.expect::<Ack>(Kind::Ack).await;
        assert_eq!(
            (frame.request_id, ack.client_seq, ack.seq),
            (number, u64::from(number), u64::from(number))
        );
    }
    bench.stop().await;
}

#[tokio::test]
async fn a_stopped_reader_lags_and_holds_no_more_than_its_queue() {
    const QUEUE: u32 = 64 << 10;
    const MESSAGES: u64 = 30_000;
    let bench = bench(|limits, _| limits.queue_bytes = QUEUE).await;
    let session = group("g");
    let mut slow = bench.attached("slow", &session).await;
    let mut fast = bench.attached("fast", &session).await;
    let reading = tokio::spawn(async move {
        let mut last = 0;
        let mut lags = 0;
        while last < MESSAGES {
            let frame = fast.next().await.unwrap();
            match Kind::from_number(frame.kind) {
                Some(Kind::Message) => {
                    let seq = decode::<Message>(&frame.body).unwrap().record.seq;
                    assert!(seq > last);
                    last = seq;
                }
                Some(Kind::Lagged) => lags += 1,
                other => panic!("{other:?}"),
            }
        }
        lags
    });
    let mut most = 0;
    for seq in 1..=MESSAGES {
        bench.publish(&session, seq..=seq, 1000);
        most = most.max(held(&bench, "slow"));
        if seq.is_multiple_of(20) {
            // The fast reader is given its turn; the slow one takes nothing in any case.
            tokio::task::yield_now().await;
            if held(&bench, "fast") > QUEUE as usize / 2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    assert!(most <= QUEUE as usize, "held {most} bytes");
    assert_eq!(
        timeout(Duration::from_secs(20), reading).await.unwrap().unwrap(),
        0,
        "the fast reader lagged"
    );
    assert!(bench.delivery.stats().lags >= 1, "the slow reader never lagged");

    // It reads again: what was queued, then word of what was not, then live.
    let mut last = 0;
    let live_from = loop {
        let frame = slow.next().await.unwrap();
        match Kind::from_number(frame.kind) {
            Some(Kind::Message) => {
                let seq = decode::<Message>(&frame.body).unwrap().record.seq;
                assert_eq!(seq, last + 1, "whole up to where it lags");
                last = seq;
            }
            Some(Kind::Lagged) => {
                let lagged: Lagged = decode(&frame.body).unwrap();
                assert_eq!(lagged.sessions.len(), 1);
                break lagged.sessions[0].1;
            }
            other => panic!("{other:?}"),
        }
    };
    assert!(last < MESSAGES && live_from == MESSAGES + 1, "{last} {live_from}");
    bench.publish(&session, live_from..=live_from, 10);
    assert_eq!(slow.message().await.seq, live_from);
    bench.stop().await;
}

#[tokio::test]
async fn pages_asked_and_not_taken_are_not_made() {
    const QUEUE: u32 = 256 << 10;
    let bench = bench(|limits, _| limits.queue_bytes = QUEUE).await;
    bench.shard.page_bytes.store(200 << 10, Ordering::Relaxed);
    let mut client = bench.client("ada", "phone").await;
    let pull = Pull {
        session: group("g"),
        from_seq: 1,
        direction: Direction::Forward,
        max_count: 1,
        max_bytes: 1 << 20,
        consistency: Consistency::Linearizable,
    };
    for request in 0..400 {
        client.send(Kind::Pull, request, &pull).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let most = held(&bench, "ada");
    assert!(most <= QUEUE as usize / 2 + 4 * (201 << 10), "held {most} bytes");
    assert!(bench.shard.reads.load(Ordering::Relaxed) < 400, "read everything at once");
    for _ in 0..400 {
        client.expect::<Page>(Kind::Page).await;
    }
    bench.stop().await;
}

#[tokio::test]
async fn a_node_that_is_full_says_so() {
    let bench = bench(|limits, _| limits.connections = 2).await;
    let first = bench.client("ada", "phone").await;
    let _second = bench.client("bob", "phone").await;
    let mut third = bench.raw().await;
    third.refused(0, ErrorCode::TooManyConnections).await;
    third.closed().await;
    drop(first);
    until("gone", || bench.gateway.connections() == 1).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let mut again = bench.raw().await;
        again.send(Kind::Hello, 1, &hello("eve", "phone")).await;
        let frame = again.next().await.unwrap();
        if frame.kind == Kind::Welcome as u8 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "never let in again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bench.stop().await;
}

/// Cursors of ada's that wait, and commands with cursors on their way.
fn cursors(bench: &Bench) -> (usize, usize) {
    let core = &bench.gateway.core;
    core.devices
        .iter()
        .find(|entry| entry.key().0 == user("ada"))
        .map_or((0, 0), |entry| entry.cursors.counts())
}

#[tokio::test]
async fn delivered_that_nobody_answers_holds_a_bounded_amount() {
    let bench = bench(|_, _| {}).await;
    let mut client = bench.client("ada", "phone").await;
    bench.shard.mute.store(true, Ordering::Relaxed);
    for round in 0..5 {
        let cursors = (0..10_000).map(|number| (group(&format!("g{round}-{number}")), 1)).collect();
        client.send(Kind::Delivered, 0, &Delivered { cursors }).await;
    }
    client.alive().await;
    until("sent", || !bench.shard.taken.lock().is_empty()).await;
    client.alive().await;
    let (waiting, on_their_way) = cursors(&bench);
    assert!(waiting <= 10_000, "{waiting} wait");
    // While those are on their way no others follow, though the flusher has had its turns.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!((bench.shard.taken.lock().len(), cursors(&bench).1), (on_their_way, on_their_way));
    assert!(on_their_way <= 20, "{on_their_way} commands on their way");
    bench.shard.mute.store(false, Ordering::Relaxed);
    let taken = std::mem::take(&mut *bench.shard.taken.lock());
    bench.shard.submit(1, taken);
    until("all is sent", || cursors(&bench) == (0, 0)).await;
    bench.stop().await;
}

#[tokio::test]
async fn cursors_refused_for_good_do_not_come_back() {
    let bench = bench(|_, _| {}).await;
    let mut client = bench.client("ada", "phone").await;
    bench.shard.mute.store(true, Ordering::Relaxed);
    client.send(Kind::Delivered, 0, &Delivered { cursors: vec![(group("g"), 3)] }).await;
    let taken = || bench.shard.taken.lock().len();
    let refuse = |code| {
        let taken = std::mem::take(&mut *bench.shard.taken.lock());
        let refused = |s: Submission| (s.origin, Answer::Refused(ErrorBody::new(code, "no")));
        bench.shard.answers.answer(1, taken.into_iter().map(refused).collect());
    };
    until("sent", || taken() == 1).await;
    refuse(ErrorCode::DiskLow);
    until("sent again, for that may pass", || taken() == 1).await;
    refuse(ErrorCode::Frozen);
    until("answered", || cursors(&bench).1 == 0).await;
    assert_eq!((cursors(&bench), taken()), ((0, 0), 0));
    bench.stop().await;
}

#[tokio::test]
async fn ok_to_a_delivered_speaks_for_all_its_parts() {
    let bench = bench(|_, _| {}).await;
    bench.shard.heads.lock().extend((0..1001).map(|number| (group(&format!("g{number}")), 1)));
    let mut client = bench.client("ada", "phone").await;
    for refused in [Some(0), Some(1), None] {
        bench.shard.mute.store(true, Ordering::Relaxed);
        let cursors = (0..1001).map(|number| (group(&format!("g{number}")), 1)).collect();
        client.send(Kind::Delivered, 7, &Delivered { cursors }).await;
        let taken = || bench.shard.taken.lock().len();
        until("in three parts", || taken() == 3).await;
        for (at, part) in std::mem::take(&mut *bench.shard.taken.lock()).into_iter().enumerate() {
            let full = ErrorBody::new(ErrorCode::Frozen, "no");
            let answer = if refused == Some(at) { Answer::Refused(full) } else { Answer::Done };
            bench.shard.answers.answer(1, vec![(part.origin, answer)]);
        }
        match refused {
            Some(_) => drop(client.refused(7, ErrorCode::Frozen).await),
            None => assert_eq!(client.expect::<()>(Kind::Ok).await.0.request_id, 7),
        }
        bench.shard.mute.store(false, Ordering::Relaxed);
    }
    bench.stop().await;
}

#[tokio::test]
async fn news_to_one_who_does_not_read_is_bounded() {
    const QUEUE: u32 = 64 << 10;
    let bench = bench(|limits, _| limits.queue_bytes = QUEUE).await;
    let mut client = bench.attached("ada", &group("g")).await;
    let left = frame_bytes(Kind::Left, 0, &Left { session: group(&"x".repeat(64)) });
    let news = vec![Push { seq: 0, frame: left, from: None, replaces: None }; 500];
    let mut rounds = 0;
    while bench.delivery.stats().lags == 0 || held(&bench, "ada") < QUEUE as usize / 2 {
        bench.delivery.publish_user(&user("ada"), &news);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(held(&bench, "ada") <= QUEUE as usize, "held {} bytes", held(&bench, "ada"));
        rounds += 1;
        assert!(rounds < 10_000, "the client's sockets take everything");
    }
    // It reads again: what was queued, and that it must sync for what was not.
    loop {
        let frame = client.next().await.unwrap();
        match Kind::from_number(frame.kind) {
            Some(Kind::Left) => {}
            Some(Kind::Lagged) => break assert!(decode::<Lagged>(&frame.body).unwrap().sessions.is_empty()),
            other => panic!("{other:?}"),
        }
    }
    bench.stop().await;
}

#[test]
fn a_page_is_configured_within_what_a_shard_gives() {
    let limits = crate::config::SECTIONS.iter().find(|section| section.name == "limits").unwrap();
    let page = limits.keys.iter().find(|key| key.name == "page").unwrap();
    assert_eq!(page.kind.allowed(), format!("1 to {} records", crate::shard::reads::MAX_PAGE));
}

/// Codes of the table of limits that are judged elsewhere, and a test of each.
const ELSEWHERE: &[(&str, &str)] = &[
    ("FRAME_TOO_LARGE", "a_length_that_lies_ends_the_connection_with_one_error"),
    ("HELLO_REQUIRED", "who_says_nothing_is_let_go"),
    ("IDLE", "who_says_nothing_is_let_go"),
    ("TOO_MANY_CONNECTIONS", "a_node_that_is_full_says_so"),
    ("BAD_FRAME", "names_are_checked_when_they_are_decoded"),
    ("BAD_TOKEN", "what_is_not_signed_with_the_key_is_refused"),
    ("BAD_REQUEST", "a_mark_that_is_of_no_use_brings_everything_and_a_wrong_one_is_refused"),
    ("TOO_FAST", "ephemeral_messages_are_bounded_in_size_and_rate_and_judged_before_they_go"),
    ("TOO_LATE", "who_may_and_when"),
    ("UNKNOWN_USER", "who_is_no_user_is_told_of_in_the_command_and_nothing_overtakes_that"),
    ("GROUP_FULL", "members_come_and_go_in_the_sequence_and_removals_keep_their_version"),
    ("NO_ROOM", "requests_users_kept_out_and_the_memory_of_declines_are_bounded"),
    ("ATTRIBUTES_FULL", "attributes_have_a_bound_in_number_and_in_bytes"),
    ("TOO_MANY_SESSIONS", "a_list_takes_so_many_sessions_and_no_more"),
    ("TOO_MANY_DEVICES", "devices_beyond_a_bound_are_refused_or_end_the_least_recently_used"),
    ("TOO_MANY_DELETIONS", "deleted_ranges_are_bounded_and_clearing_makes_room"),
    ("TOO_MANY_EXPIRING", "no_more_may_wait_to_go_than_is_allowed_and_what_stays_is_not_concerned"),
    ("RELATIONS_FULL", "requests_of_blocked_users_and_beyond_the_bound_are_declined_on_the_spot"),
    ("KEYS_FULL", "keys_are_bounded_and_forgotten_after_a_day"),
];

/// Whether one of the files under a folder has this.
fn is_in(folder: &std::path::Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            is_in(&path, text)
        } else {
            std::fs::read_to_string(&path).unwrap().contains(text)
        }
    })
}

/// A request beyond each bound that is judged before the log.
fn beyond(limits: &Limits) -> Vec<(Bytes, ErrorCode, usize)> {
    let team = group("team");
    let sized = |bytes: usize| Blob(Bytes::from(vec![b'x'; bytes]));
    let message = |content_type: usize, content: usize, extensions: &[usize]| {
        let mut send = send(&team, 1, &vec![0; content]);
        send.content_type = sized(content_type);
        send.extensions =
            extensions.iter().map(|bytes| Extension { tag: 1024, data: sized(*bytes) }).collect();
        frame_bytes(Kind::Send, 7, &send)
    };
    let manage = |action| {
        let manage = ManageGroup { session: team.clone(), client_seq: 1, on_behalf_of: None, action };
        frame_bytes(Kind::ManageGroup, 7, &manage)
    };
    let join = |code, text| {
        let join = JoinGroup { session: team.clone(), client_seq: 1, on_behalf_of: None, code, text };
        frame_bytes(Kind::JoinGroup, 7, &join)
    };
    let own =
        |action| frame_bytes(Kind::ManageSelf, 7, &ManageSelf { number: 1, on_behalf_of: None, action });
    let (bob, hash) = (user("bob"), sized(32));
    let names = |count: usize| (0..count).map(|number| user(&format!("u{number}"))).collect::<Vec<_>>();
    let users = Members { session: team.clone(), client_seq: 1, on_behalf_of: None, users: names(1001) };
    let cursors = (0..10_001).map(|number| (group(&format!("g{number}")), 1)).collect();
    let watch = Watch { mode: WatchMode::Add, users: names(limits.watched as usize + 1) };
    let body = Said::Content { content_type: Blob::default(), content: sized(limits.ephemeral as usize + 1) };
    let draft = SessionSetting::Draft(sized(limits.draft_bytes as usize + 1));
    let attribute = GroupAction::SetAttribute { key: "k".parse().unwrap(), value: Some(sized(1025)) };
    let profile = |name, avatar| manage(GroupAction::SetProfile { name, avatar });
    vec![
        (message(65, 1, &[]), ErrorCode::ContentTypeTooLong, 64),
        (message(0, limits.content as usize + 1, &[]), ErrorCode::ContentTooLarge, limits.content as usize),
        (message(0, 1, &[1; 17]), ErrorCode::TooManyExtensions, 16),
        (message(0, 1, &[4096, 1]), ErrorCode::ExtensionsTooLarge, 4096),
        (frame_bytes(Kind::AddMembers, 7, &users), ErrorCode::TooManyUsers, 1000),
        (frame_bytes(Kind::Delivered, 7, &Delivered { cursors }), ErrorCode::TooManyCursors, 10_000),
        (frame_bytes(Kind::Watch, 7, &watch), ErrorCode::TooMany, limits.watched as usize),
        (
            frame_bytes(Kind::Ephemeral, 7, &Ephemeral { session: team.clone(), on_behalf_of: None, body }),
            ErrorCode::EphemeralTooLarge,
            limits.ephemeral as usize,
        ),
        (profile(Some(sized(257)), None), ErrorCode::GroupNameTooLong, 256),
        (profile(None, Some(sized(2049))), ErrorCode::AvatarTooLarge, 2048),
        (manage(attribute), ErrorCode::AttributeTooLarge, 1024),
        (join(Some(sized(65)), sized(0)), ErrorCode::InviteCodeTooLong, 64),
        (join(None, sized(257)), ErrorCode::JoinTextTooLong, 256),
        (manage(GroupAction::MakeCode { hash, until_ms: 0, uses: 100_001 }), ErrorCode::TooManyUses, 100_000),
        (
            own(UserAction::RequestFriend { user: bob.clone(), text: sized(513) }),
            ErrorCode::FriendTextTooLong,
            512,
        ),
        (own(UserAction::SetRemark { user: bob, remark: sized(257) }), ErrorCode::RemarkTooLong, 256),
        (
            own(UserAction::NameDevice { device: "pad".parse().unwrap(), name: sized(129) }),
            ErrorCode::DeviceNameTooLong,
            128,
        ),
        (
            own(UserAction::SetSession { session: team.clone(), setting: draft }),
            ErrorCode::DraftTooLarge,
            limits.draft_bytes as usize,
        ),
    ]
}

#[tokio::test]
async fn every_bound_of_a_request_is_refused_with_the_code_that_is_documented() {
    let bench = bench(|limits, _| (limits.watched_sessions, limits.frame) = (1, 100_000)).await;
    let limits = bench.gateway.core.options.limits.clone();
    let mut walked = Vec::new();
    let mut client = bench.client("ada", "phone").await;
    for (frame, code, most) in beyond(&limits) {
        client.bytes(&frame).await;
        let refused = client.refused(7, code).await;
        assert_eq!(refused.detail, most as u64, "{refused}");
        walked.push(code);
    }
    for (name, code) in [("one", None), ("two", Some(ErrorCode::TooManyGroupsWatched))] {
        client.send(Kind::WatchSession, 7, &WatchSession { session: group(name), on: true }).await;
        match code {
            None => drop(client.expect::<SessionPresence>(Kind::SessionPresence).await),
            Some(code) => {
                assert_eq!(client.refused(7, code).await.detail, 1);
                walked.push(code);
            }
        }
    }
    assert!(bench.shard.commands.lock().iter().all(|command| !matches!(command, Command::Act { .. })));
    bench.stop().await;

    let bench = self::bench(|limits, _| (limits.watched, limits.frame) = (1000, 16_384)).await;
    let mut client = bench.client("ada", "phone").await;
    let users = (0..230).map(|number| user(&format!("{number:0>64}"))).collect();
    client.send(Kind::Watch, 7, &Watch { mode: WatchMode::Add, users }).await;
    assert_eq!(client.refused(7, ErrorCode::WatchTooLarge).await.detail, 204);
    walked.push(ErrorCode::WatchTooLarge);
    let long = |bytes: usize| Blob::from("x".repeat(bytes).as_str());
    let hellos = [
        (Hello { agent: long(65), ..hello("bob", "phone") }, ErrorCode::AgentTooLong, 64),
        (Hello { platform: long(33), ..hello("bob", "phone") }, ErrorCode::PlatformTooLong, 32),
    ];
    for (hello, code, most) in hellos {
        let mut client = bench.raw().await;
        client.send(Kind::Hello, 7, &hello).await;
        assert_eq!(client.refused(7, code).await.detail, most);
        walked.push(code);
    }
    bench.stop().await;

    let mut all: Vec<ErrorCode> = crate::gateway::bounds::ALL.iter().map(|bound| bound.code).collect();
    all.sort_unstable();
    walked.sort_unstable();
    assert_eq!(walked, all, "each once, and no bound without a code of its own");
    let page = include_str!("../../../docs/protocol.md");
    let (_, page) = page.split_once("\n## 7. Limits").unwrap();
    let (table, _) = page.split_once("\n## 8.").unwrap();
    let words = table
        .lines()
        .filter(|line| line.starts_with('|'))
        .flat_map(|line| line.split(['|', ' ', ':', ';', ',', '.']));
    let named: std::collections::BTreeSet<&str> =
        words.filter(|word| ErrorCode::ALL.iter().any(|code| code.name() == *word)).collect();
    for code in &all {
        assert!(named.contains(code.name()), "docs/protocol.md names {code} in no row of its limits");
    }
    for code in named {
        let here = all.iter().any(|bound| bound.name() == code);
        let test = ELSEWHERE.iter().find(|(name, _)| *name == code).map(|(_, test)| format!("fn {test}("));
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let is_shown =
            |test: String| ["src", "wire/tests"].iter().any(|folder| is_in(&root.join(folder), &test));
        assert!(here || test.is_some_and(is_shown), "nothing shows {code}");
    }
}
