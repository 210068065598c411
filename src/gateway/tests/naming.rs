//! Where only users may be named: what is asked before a request goes on, and what it waits for.

use rookery_wire::admin::{Admin, AdminReply};
use rookery_wire::own::{ManageSelf, SelfAck};
use rookery_wire::request::Members;
use rookery_wire::{AdminAction, RequestKey, UserAction};

use super::*;
use crate::config::Users;
use crate::state::Act;

/// In the imagined shard everybody is a user but one.
const NOBODY: &str = "bbo";

pub(super) fn known(users: &[UserId]) -> ReadReply {
    ReadReply::Known(users.iter().map(|name| *name != user(NOBODY)).collect())
}

fn members(number: u64, names: &[&str]) -> Members {
    let users = names.iter().map(|name| user(name)).collect();
    Members { session: group("team"), client_seq: number, on_behalf_of: None, users }
}

/// Changes of members that reached the shard: their numbers, 0 for one under a key, and who was said to be no user.
fn changes(bench: &Bench) -> Vec<(u64, Option<UserId>)> {
    let unknown = |act: &Act| match act {
        Act::Change { unknown, .. } => unknown.clone(),
        _ => None,
    };
    let told = |command: &Command| match command {
        Command::Act { client_seq, act, .. } => Some((*client_seq, unknown(act))),
        Command::KeyedAct { act, .. } => Some((0, unknown(act))),
        _ => None,
    };
    bench.shard.commands.lock().iter().filter_map(told).collect()
}

#[tokio::test]
async fn who_is_no_user_is_told_of_in_the_command_and_nothing_overtakes_that() {
    let bench = bench(|limits, _| limits.users = Users::Created).await;
    let mut client = bench.client("ada", "phone").await;
    let text = |number: u64| Send {
        session: group("team"),
        client_seq: number,
        on_behalf_of: None,
        content_type: Blob::default(),
        content: Blob::from("hi"),
        extensions: Vec::new(),
    };
    // All in one write, so that the node has them all at once.
    let mut frames = BytesMut::new();
    encode_frame(Kind::CreateGroup, 1, &members(1, &["bob"]), &mut frames);
    encode_frame(Kind::Send, 2, &text(2), &mut frames);
    encode_frame(Kind::AddMembers, 3, &members(3, &["cid", NOBODY]), &mut frames);
    encode_frame(Kind::Send, 4, &text(4), &mut frames);
    encode_frame(Kind::RemoveMembers, 5, &members(5, &[NOBODY]), &mut frames);
    client.bytes(&frames).await;
    for request in 1..=5 {
        let (frame, _) = client.expect::<Ack>(Kind::Ack).await;
        assert_eq!(frame.request_id, request);
    }
    let nobody = Some(user(NOBODY));
    assert_eq!(changes(&bench), [(1, None), (2, None), (3, nobody.clone()), (4, None), (5, None)]);

    let ask = |who: &str, number| ManageSelf {
        number,
        on_behalf_of: None,
        action: UserAction::RequestFriend { user: user(who), text: Blob::default() },
    };
    client.send(Kind::ManageSelf, 6, &ask(NOBODY, 8)).await;
    let refusal = client.refused(6, ErrorCode::UnknownUser).await;
    assert!(!refusal.takes_client_seq() && refusal.message().contains(NOBODY), "{refusal}");
    assert!(bench.shard.commands.lock().iter().all(|it| !matches!(it, Command::UserAct { .. })));
    client.send(Kind::ManageSelf, 7, &ask("bob", 8)).await;
    client.expect::<SelfAck>(Kind::SelfAck).await;
    // Number 7 was used: it gets its first answer, whoever is there now.
    client.send(Kind::ManageSelf, 8, &ask(NOBODY, 7)).await;
    client.expect::<SelfAck>(Kind::SelfAck).await;

    let mut shop = admin::service(&bench).await;
    let action = AdminAction::AddMembers { group: GroupId::new("team").unwrap(), users: vec![user(NOBODY)] };
    let key = RequestKey::new("k").unwrap();
    shop.send(Kind::Admin, 9, &Admin { key, on_behalf_of: None, action }).await;
    shop.expect::<AdminReply>(Kind::AdminReply).await;
    assert_eq!(changes(&bench).last(), Some(&(0, nobody)));
    bench.stop().await;
}

#[tokio::test]
async fn where_any_name_will_do_nothing_is_asked() {
    let bench = bench(|_, _| {}).await;
    let mut client = bench.client("ada", "phone").await;
    client.send(Kind::CreateGroup, 1, &members(1, &[NOBODY])).await;
    client.expect::<Ack>(Kind::Ack).await;
    assert_eq!(changes(&bench), [(1, None)], "the shard would have said that this one is nobody");
    bench.stop().await;
}
