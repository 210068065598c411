//! Coming into groups by oneself, on three nodes: codes, requests, open groups and users kept out hold on every node and
//! through the deaths of leaders.

use rookery_client::wire::join::{Join, Outside};
use rookery_client::{Client, ClientError, Event, InviteCode};
use rookery_wire::join::JoinGroup;
use rookery_wire::reply::Ack;
use rookery_wire::{Blob, ErrorCode, GroupAction, GroupId, Kind, Policy, RecordKind, SessionId, Who, decode};

use super::fixture::{Cluster, Plan, play, until};
use super::people::{Inbox, Wire, app, group, replicas, say, text_of, texts, user};

fn refused(answer: Result<Ack, ClientError>) -> (ErrorCode, u64) {
    match answer {
        Err(ClientError::Refused(error)) => (error.code, error.detail),
        other => panic!("a refusal was expected: {other:?}"),
    }
}

fn policy(join: Join) -> Policy {
    Policy { join, invite: Who::Admins, ..Policy::default() }
}

fn because() -> Blob {
    Blob::from("it is me")
}

async fn asking(client: &Client, team: &SessionId) -> Vec<String> {
    let page = client.requests(team, Outside::Asking, None, 10).await.expect("a page");
    page.requests.iter().map(|line| line.user.to_string()).collect()
}

/// The next change of the group that somebody is told of.
async fn change(inbox: &mut Inbox) -> GroupAction {
    inbox
        .event(|event| match event {
            Event::Message { record, .. } if record.kind == RecordKind::GROUP_CHANGED => {
                decode(&record.content.0).ok()
            }
            _ => None,
        })
        .await
}

async fn listed(cluster: &Cluster, node: u16, who: &str) -> bool {
    let mut wire = Wire::of(cluster, node, who, "list").await;
    !wire.sync().await.sessions.is_empty()
}

#[test]
fn a_request_is_seen_answered_and_taken_back_through_the_death_of_the_leader() {
    play(async {
        let mut cluster = Cluster::up(Plan::new(3, 4).with("limits", "join_again_ms = 4000")).await;
        let team = group("team");
        let (ann, _) = app(&cluster, &[1, 2, 3], "ann", "phone").await;
        let (bob, mut bobs) = app(&cluster, &[2, 3, 1], "bob", "phone").await;
        let (eve, mut eves) = app(&cluster, &[3, 1, 2], "eve", "phone").await;
        let (dan, _) = app(&cluster, &[1, 3, 2], "dan", "phone").await;
        ann.create_group(GroupId::new("team").expect("a name"), &[user("bob")]).await.expect("created");
        assert_eq!(refused(eve.join_group(&team, None, because()).await), (ErrorCode::JoinClosed, 0));
        ann.set_policy(&team, policy(Join::Request)).await.expect("set");
        assert_eq!(change(&mut bobs).await, GroupAction::SetPolicy(policy(Join::Request)));

        eve.join_group(&team, None, because()).await.expect("asked");
        assert_eq!(asking(&eve, &team).await, ["eve"]);
        assert!(!eve.is_member(&team).await.expect("an answer"));
        assert_eq!(change(&mut bobs).await, GroupAction::Asked { user: user("eve") });
        assert_eq!(refused(eve.join_group(&team, None, because()).await), (ErrorCode::AskedLately, 0));
        let hidden = bob.requests(&team, Outside::Asking, None, 10).await.expect_err("a plain member");
        assert_eq!(hidden.code(), Some(ErrorCode::NotAllowed));
        dan.join_group(&team, None, because()).await.expect("asked");
        assert_eq!(asking(&dan, &team).await, ["dan"], "his own, and eve's is not his to see");
        dan.answer_request(&team, user("dan"), false).await.expect("taken back");
        assert!(asking(&dan, &team).await.is_empty());
        // Of all of this the next leader knows.
        let leader = cluster.leader_of(&team).await;
        cluster.kill(leader);
        let page = ann.requests(&team, Outside::Asking, None, 10).await.expect("a page");
        assert_eq!((page.requests.len(), page.more), (1, false));
        assert_eq!((page.requests[0].user.as_str(), &page.requests[0].text), ("eve", &because()));
        assert_eq!(refused(ann.answer_request(&team, user("dan"), true).await).0, ErrorCode::NotMember);
        let (code, again) = refused(dan.join_group(&team, None, because()).await);
        assert!(code == ErrorCode::AskedLately && again > 0);
        let accepted = ann.answer_request(&team, user("eve"), true).await.expect("let in");
        assert!(listed(&cluster, if leader == 2 { 3 } else { 2 }, "eve").await, "when the ACK is there");
        eves.event(|event| matches!(event, Event::Joined(_)).then_some(())).await;
        assert!(eve.is_member(&team).await.expect("an answer"));
        say(&eve, &team, texts("thanks", 1)).await;
        bobs.event(|event| match event {
            Event::Message { record, .. } if text_of(record) == "thanks 1" => Some(()),
            _ => None,
        })
        .await;
        until("dan may ask again", async || dan.join_group(&team, None, because()).await.is_ok()).await;
        assert_eq!(asking(&ann, &team).await, ["dan"]);
        ann.answer_request(&team, user("dan"), false).await.expect("declined");
        cluster.start(leader);
        cluster.serving().await;
        let all = replicas(&cluster, &[1, 2, 3], &team).await;
        let record = &all[accepted.seq as usize - 1];
        assert_eq!((record.kind, record.sender.as_str()), (RecordKind::MEMBERS_ADDED, "ann"));
        assert!(all.iter().all(|record| !record.content.as_ref().windows(8).any(|some| some == b"it is me")));
    });
}

#[test]
fn a_code_lets_in_as_many_as_it_says_through_the_death_of_the_leader_and_nobody_who_is_kept_out() {
    play(async {
        let mut cluster = Cluster::up(Plan::new(3, 4)).await;
        let team = group("team");
        let (ann, _) = app(&cluster, &[1, 2, 3], "ann", "phone").await;
        let (eve, mut eves) = app(&cluster, &[3, 1, 2], "eve", "phone").await;
        let (fay, _) = app(&cluster, &[2, 1, 3], "fay", "phone").await;
        ann.create_group(GroupId::new("team").expect("a name"), &[]).await.expect("created");
        let (code, made) = ann.make_code(&team, 0, 3).await.expect("made");
        let wrong = InviteCode::draw();
        assert_eq!(
            refused(eve.join_group(&team, Some(&wrong), because()).await),
            (ErrorCode::CodeUnknown, 0)
        );

        // Ten devices run for the two places that are left of three, each through some node, while the leader dies.
        let joined = eve.join_group(&team, Some(&code), Blob::default()).await.expect("joined");
        eves.event(|event| matches!(event, Event::Joined(_)).then_some(())).await;
        // Nobody writes here: she is given the record of her own joining all the same.
        eves.event(|event| match event {
            Event::Message { record, .. } => (record.seq == joined.seq).then_some(()),
            _ => None,
        })
        .await;
        let leader = cluster.leader_of(&team).await;
        let mut runners = Vec::new();
        for number in 0..10u16 {
            let nodes: Vec<u16> = (0..3).map(|step| 1 + (number + step) % 3).collect();
            let (runner, _) = app(&cluster, &nodes, &format!("r{number}"), "phone").await;
            let (team, code) = (team.clone(), code.clone());
            runners.push(tokio::spawn(async move {
                let came = runner.join_group(&team, Some(&code), Blob::default()).await;
                (runner.is_member(&team).await.expect("an answer"), came)
            }));
        }
        cluster.kill(leader);
        let mut came = 0;
        for runner in runners {
            match runner.await.expect("it ran") {
                (true, Ok(_)) => came += 1,
                (false, Err(ClientError::Refused(error))) => assert_eq!(error.code, ErrorCode::CodeUsedUp),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(came, 2, "three uses, one was eve's");
        assert_eq!(ann.group_info(&team).await.expect("a group").members, 4);
        let page = ann.codes(&team, 0, 10).await.expect("a page");
        assert_eq!(page.codes.iter().map(|code| (code.id, code.used)).collect::<Vec<_>>(), [(made.seq, 3)]);

        // Late, from raw frames: a retry of a join gets its first answer, whoever leads.
        let (code, made) = ann.make_code(&team, 0, 5).await.expect("made");
        let mut desk = Wire::of(&cluster, if leader == 1 { 2 } else { 1 }, "gil", "desk").await;
        let join = JoinGroup {
            session: team.clone(),
            client_seq: 1,
            on_behalf_of: None,
            code: Some(code.bytes()),
            text: Blob::default(),
        };
        let first: Ack = desk.ask(Kind::JoinGroup, &join).await.expect("joined");
        let again: Ack = desk.ask(Kind::JoinGroup, &join).await.expect("the same");
        assert_eq!(first, again);
        assert_eq!(ann.codes(&team, made.seq - 1, 10).await.expect("a page").codes[0].used, 1);

        // To remove is not to keep out.
        ann.remove_members(&team, &[user("eve")]).await.expect("removed");
        eve.join_group(&team, Some(&code), Blob::default()).await.expect("with the new code");
        ann.bar(&team, user("eve"), true).await.expect("kept out");
        ann.remove_members(&team, &[user("eve")]).await.expect("removed");
        let barred = refused(eve.join_group(&team, Some(&code), Blob::default()).await);
        assert_eq!(barred, (ErrorCode::Barred, 0), "she is no member, so no number is taken");
        assert_eq!(refused(ann.add_members(&team, &[user("eve")]).await).0, ErrorCode::Barred);
        let barred = ann.requests(&team, Outside::Barred, None, 10).await.expect("a page");
        assert_eq!(barred.requests.len(), 1);
        ann.revoke_code(&team, made.seq).await.expect("taken back");
        assert_eq!(refused(fay.join_group(&team, Some(&code), because()).await).0, ErrorCode::CodeUnknown);
        ann.set_policy(&team, policy(Join::Open)).await.expect("set");
        fay.join_group(&team, None, Blob::default()).await.expect("it is open");
        assert_eq!(refused(eve.join_group(&team, None, because()).await).0, ErrorCode::Barred);
        ann.bar(&team, user("eve"), false).await.expect("let in again");
        eve.join_group(&team, None, Blob::default()).await.expect("it is open");
        say(&eve, &team, texts("back", 1)).await;

        cluster.start(leader);
        cluster.serving().await;
        let all = replicas(&cluster, &[1, 2, 3], &team).await;
        let (written, hash) = (code.bytes(), code.hash());
        let shows = |part: &Blob| {
            all.iter()
                .any(|record| record.content.as_ref().windows(part.len()).any(|some| some == part.as_ref()))
        };
        assert!(!shows(&written) && !shows(&hash), "neither code nor hash is in any record");
        ann.dissolve(&team).await.expect("dissolved");
        assert_eq!(refused(fay.join_group(&team, None, because()).await).0, ErrorCode::Dissolved);
    });
}
