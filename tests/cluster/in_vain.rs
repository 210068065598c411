//! What is asked in vain leaves things as they were, on three nodes and through the death of a leader: a code that a full list
//! did not need, knocking faster than allowed, a number that is refused before everything is read.

use std::time::{Duration, Instant};

use rookery_client::ClientError;
use rookery_wire::join::JoinGroup;
use rookery_wire::own::{ManageSelf, SelfAck};
use rookery_wire::reply::Ack;
use rookery_wire::{Blob, ErrorCode, GroupId, Kind, SessionId, UserAction};
use tokio::task::JoinSet;

use super::fixture::{Cluster, Plan, play, until};
use super::people::{Wire, app, group, read, say, texts, user};

/// What `limits.sessions_per_user` is at the least.
const FEW: usize = 10;

fn name(of: &str, number: usize) -> GroupId {
    GroupId::new(&format!("{of}{number}")).expect("a name")
}

#[test]
fn a_full_list_leaves_the_code_to_another_through_the_death_of_the_leader() {
    play(async {
        let plan = Plan::new(3, 4).with("limits", &format!("sessions_per_user = {FEW}"));
        let mut cluster = Cluster::up(plan.with("limits", "join_rate = 2")).await;
        let aviary = group("aviary");
        let (hulda, _) = app(&cluster, &[1, 2, 3], "hulda", "phone").await;
        let (wren, _) = app(&cluster, &[3, 1, 2], "wren", "phone").await;
        let (siskin, _) = app(&cluster, &[2, 3, 1], "siskin", "phone").await;
        hulda.create_group(GroupId::new("aviary").expect("a name"), &[]).await.expect("created");
        for number in 0..FEW {
            wren.create_group(name("nest", number), &[]).await.expect("created");
        }
        let (code, made) = hulda.make_code(&aviary, 0, 1).await.expect("made");
        let used = async || {
            let page = hulda.codes(&aviary, made.seq - 1, 1).await.expect("a page");
            page.codes[0].used
        };
        let leader = cluster.leader_of(&aviary).await;
        let coming = tokio::spawn({
            let (wren, aviary, code) = (wren.clone(), aviary.clone(), code.clone());
            async move { wren.join_group(&aviary, Some(&code), Blob::default()).await }
        });
        cluster.kill(leader);
        coming.await.expect("it ran").expect("she came, and left at once");
        until("the use is given back", async || used().await == 0).await;
        assert!(!wren.is_member(&aviary).await.expect("an answer"));
        siskin.join_group(&aviary, Some(&code), Blob::default()).await.expect("it is good for one more");
        assert_eq!(used().await, 1);
        say(&siskin, &aviary, texts("thanks", 1)).await;
        cluster.start(leader);
        cluster.serving().await;

        // Raw frames are refused when they come too fast, and take no number; the client waits and asks again.
        let mut desk = Wire::of(&cluster, 2, "wren", "desk").await;
        let knock = |number: usize| JoinGroup {
            session: SessionId::group(name("door", number)),
            client_seq: 1,
            on_behalf_of: None,
            code: None,
            text: Blob::default(),
        };
        // All of them at once, so that no pause between two answers earns another try.
        let asked: Vec<u32> = (0..8).map(|number| desk.put(Kind::JoinGroup, &knock(number))).collect();
        desk.flush().await.expect("written");
        let mut fast = 0;
        for id in asked {
            let refused = read::<Ack>(&desk.answer(id).await).expect_err("no such door");
            match refused.code {
                ErrorCode::TooFast => {
                    assert_eq!((refused.detail, refused.takes_client_seq()), (2, false), "{refused}");
                    fast += 1;
                }
                code => assert_eq!(code, ErrorCode::NoSuchSession, "{refused}"),
            }
        }
        assert!(fast > 0, "eight at once are more than a burst of four");
        let begin = Instant::now();
        for number in 0..8 {
            let door = SessionId::group(name("gate", number));
            match siskin.join_group(&door, None, Blob::default()).await {
                Err(ClientError::Refused(error)) => {
                    assert_eq!(error.code, ErrorCode::NoSuchSession, "{error}")
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(begin.elapsed() >= Duration::from_millis(1_500), "four at once, and two a second");
    });
}

/// More sessions than one command reads.
const MANY: usize = 520;

#[test]
fn of_everything_nothing_is_read_under_a_number_that_is_refused() {
    play(async {
        let cluster = Cluster::up(Plan::new(3, 4)).await;
        let (hulda, _) = app(&cluster, &[1, 2, 3], "hulda", "phone").await;
        let mut made: JoinSet<Result<Ack, ClientError>> = JoinSet::new();
        for number in 0..MANY {
            while made.len() >= 32 {
                made.join_next().await.expect("one").expect("it ran").expect("created");
            }
            let hulda = hulda.clone();
            made.spawn(async move { hulda.create_group(name("cage", number), &[user("merle")]).await });
        }
        while let Some(one) = made.join_next().await {
            one.expect("it ran").expect("created");
        }
        for number in [0, MANY - 1] {
            say(&hulda, &SessionId::group(name("cage", number)), texts("seed", 2)).await;
        }
        let mut merle = Wire::of(&cluster, 2, "merle", "phone").await;
        let all = |number| ManageSelf { number, on_behalf_of: None, action: UserAction::ReadAll };
        let skips = merle.ask::<_, SelfAck>(Kind::ManageSelf, &all(7)).await.expect_err("a gap");
        assert_eq!((skips.code, skips.detail), (ErrorCode::ClientSeqGap, 1));
        let unread = merle.sync().await.badge.expect("a badge").unread;
        assert_eq!(unread, 4, "nothing was read");
        let ack: SelfAck = merle.ask(Kind::ManageSelf, &all(1)).await.expect("read");
        assert_eq!((ack.value, merle.sync().await.badge.expect("a badge").unread), (4, 0));
        // What came since is not read by a repeat, through whichever node, which has the first answer.
        for number in [0, MANY - 1] {
            say(&hulda, &SessionId::group(name("cage", number)), texts("grain", 1)).await;
        }
        assert_eq!(merle.ask::<_, SelfAck>(Kind::ManageSelf, &all(1)).await.expect("again"), ack);
        assert_eq!(merle.sync().await.badge.expect("a badge").unread, 2);
        assert_eq!(merle.ask::<_, SelfAck>(Kind::ManageSelf, &all(2)).await.expect("read").value, 2);
    });
}
