//! The management of groups through the client library: what is set holds on every node, through the death of a leader.

use rookery_client::wire::group::Group;
use rookery_client::{Client, ClientError, Event, Options, Outgoing};
use rookery_wire::reply::Ack;
use rookery_wire::request::{Consistency, Direction, Role};
use rookery_wire::{
    AttributeKey, Blob, ErrorCode, GroupAction, GroupId, MemberRole, Policy, RecordKind, SessionId, Who,
    decode,
};

use super::fixture::{Cluster, Plan, play};
use super::people::{Inbox, Wire, app, contents, device, group, replicas, say, texts, user};

/// A time that does not come within these tests.
const FAR_MS: u64 = 99_000_000_000_000;

struct People {
    ann: Client,
    bob: Client,
    cid: Client,
    shop: Client,
    bobs: Inbox,
    team: SessionId,
}

#[test]
fn a_group_is_managed_through_the_death_of_its_leader_and_dissolved() {
    play(async {
        let mut cluster = Cluster::up(Plan::new(3, 2)).await;
        let mut people = meet(&cluster).await;
        profile_and_roles(&mut people).await;
        history_before_joining(&people).await;
        mutes_through_a_failover(&mut cluster, &people).await;
        hand_over(&people).await;
        cluster.serving().await;
        replicas(&cluster, &[1, 2, 3], &people.team).await;
        the_end(&people).await;
        let all = replicas(&cluster, &[1, 2, 3], &people.team).await;
        assert_eq!(all.last().map(|record| record.kind), Some(RecordKind::GROUP_CHANGED));
    });
}

/// Every list has let go when the end is acknowledged, however many there are; no entry of the log names them all.
#[test]
fn the_end_of_a_large_group_reaches_every_list() {
    play(async {
        let cluster = Cluster::up(Plan::new(3, 4)).await;
        let crowd = group("crowd");
        let (ann, _) = app(&cluster, &[1, 2, 3], "ann", "phone").await;
        ann.create_group(GroupId::new("crowd").expect("a name"), &[]).await.expect("created");
        let members: Vec<_> = (0..2_500).map(|number| format!("m{number:04}")).collect();
        for some in members.chunks(1_000) {
            let some: Vec<_> = some.iter().map(|name| user(name)).collect();
            ann.add_members(&crowd, &some).await.expect("added");
        }
        assert_eq!(info(&ann, &crowd).await.members, 2_501);
        ann.dissolve(&crowd).await.expect("dissolved");
        for name in members.iter().step_by(100) {
            let mut phone = Wire::of(&cluster, 2, name, "phone").await;
            assert!(phone.sync().await.sessions.is_empty(), "{name} still has it");
        }
    });
}

async fn meet(cluster: &Cluster) -> People {
    let (ann, _) = app(cluster, &[1, 2, 3], "ann", "phone").await;
    let (bob, bobs) = app(cluster, &[2, 3, 1], "bob", "phone").await;
    let (cid, _) = app(cluster, &[3, 1, 2], "cid", "phone").await;
    let seeds: Vec<String> = [1, 2, 3].map(|id| cluster.client(id)).into();
    let mut options = Options::new(seeds, user("shop"), device("backend"));
    options.role = Role::Service;
    let (shop, _) = Client::connect(options).await.expect("a service");
    let team = group("team");
    ann.create_group(GroupId::new("team").expect("a name"), &[user("bob")]).await.expect("created");
    say(&ann, &team, texts("early", 3)).await;
    People { ann, bob, cid, shop, bobs, team }
}

fn refused(answer: Result<Ack, ClientError>) -> (ErrorCode, u64) {
    match answer {
        Err(ClientError::Refused(error)) => (error.code, error.detail),
        other => panic!("a refusal was expected: {other:?}"),
    }
}

async fn info(client: &Client, team: &SessionId) -> Group {
    client.group_info(team).await.unwrap_or_else(|why| panic!("{why}"))
}

/// What is changed is a record for every device, in order, and the state that any node tells.
async fn profile_and_roles(people: &mut People) {
    let People { ann, bob, bobs, team, .. } = people;
    let key = AttributeKey::new("colour").expect("a key");
    assert_eq!(refused(bob.set_profile(team, Some("x".into()), None).await).0, ErrorCode::NotAllowed);
    ann.set_profile(team, Some("Crows".into()), Some("https://example.org/crow.png".into()))
        .await
        .expect("named");
    ann.set_role(team, user("bob"), MemberRole::Admin).await.expect("an admin");
    bob.set_attribute(team, key.clone(), Some("black".into())).await.expect("set");
    assert_eq!(refused(bob.set_role(team, user("ann"), MemberRole::Member).await).0, ErrorCode::NotAllowed);
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let action = bobs.event(|event| match event {
            Event::Message { record, .. } if record.kind == RecordKind::GROUP_CHANGED => {
                Some(decode::<GroupAction>(&record.content.0).expect("an action"))
            }
            _ => None,
        });
        seen.push(action.await);
    }
    let avatar = Some(Blob::from("https://example.org/crow.png"));
    let expected = [
        GroupAction::SetProfile { name: Some("Crows".into()), avatar: avatar.clone() },
        GroupAction::SetRole { user: user("bob"), role: MemberRole::Admin },
        GroupAction::SetAttribute { key: key.clone(), value: Some("black".into()) },
    ];
    assert_eq!(seen, expected);
    let seen = info(bob, team).await;
    assert_eq!((seen.name, Some(seen.avatar)), ("Crows".into(), avatar));
    assert_eq!((seen.owner, seen.role), (Some(user("ann")), Some(MemberRole::Admin)));
    assert_eq!(seen.attributes, [(key, Blob::from("black"))]);
}

/// Who joins a group that hides its history sees what comes from then on, and a service sees all.
async fn history_before_joining(people: &People) {
    let People { ann, cid, shop, team, .. } = people;
    let policy = Policy { history_before_joining: false, ..Policy::default() };
    ann.set_policy(team, policy).await.expect("set");
    let joined = ann.add_members(team, &[user("cid")]).await.expect("added");
    say(ann, team, texts("late", 2)).await;
    let pull = async |client: &Client, from, direction| {
        client.pull(team, from, direction, 100, Consistency::Linearizable).await.expect("a page")
    };
    for page in [pull(cid, 1, Direction::Forward).await, pull(cid, 0, Direction::Backward).await] {
        assert_eq!(page.first_seq, joined.seq);
        assert_eq!(page.records.first().map(|record| record.seq), Some(joined.seq));
        assert_eq!(contents(&page.records), texts("late", 2));
    }
    let line = cid.sync().await.expect("a list").sessions.remove(0);
    assert_eq!((line.first_seq, line.unread), (joined.seq, 2));
    assert_eq!(pull(ann, 1, Direction::Forward).await.first_seq, 1, "ann was there from the beginning");
    assert_eq!(pull(shop, 1, Direction::Forward).await.records[0].seq, 1);
    ann.set_policy(team, Policy::default()).await.expect("set");
    assert_eq!(pull(cid, 1, Direction::Forward).await.first_seq, 1, "open again");
}

/// A mute is replicated state: the next leader judges by it as well.
async fn mutes_through_a_failover(cluster: &mut Cluster, people: &People) {
    let People { ann, bob, cid, team, .. } = people;
    let hi = || Outgoing::text("may I?");
    bob.mute(team, user("cid"), FAR_MS).await.expect("muted");
    assert_eq!(refused(cid.send(team, hi()).await), (ErrorCode::Muted, FAR_MS));
    assert_eq!(refused(bob.mute(team, user("ann"), FAR_MS).await).0, ErrorCode::NotAllowed);
    let leader = cluster.leader_of(team).await;
    cluster.kill(leader);
    assert_eq!(refused(cid.send(team, hi()).await), (ErrorCode::Muted, FAR_MS));
    assert_eq!(info(cid, team).await.muted_until_ms, FAR_MS);
    let roles = bob.roles(team, None, 1).await.expect("a page");
    assert_eq!((roles.roles.len(), roles.more), (1, true));
    let rest = bob.roles(team, Some(user("ann")), 10).await.expect("a page");
    let names: Vec<_> = rest.roles.iter().map(|line| (line.user.as_str(), line.muted_until_ms)).collect();
    assert_eq!(names, [("bob", 0), ("cid", FAR_MS)]);
    bob.mute(team, user("cid"), 0).await.expect("unmuted");
    cid.send(team, hi()).await.expect("cid may");
    ann.mute_all(team, true).await.expect("muted");
    assert_eq!(refused(cid.send(team, hi()).await), (ErrorCode::Muted, 0));
    bob.send(team, hi()).await.expect("an admin may");
    ann.mute_all(team, false).await.expect("unmuted");
    ann.set_policy(team, Policy { write: Who::Admins, ..Policy::default() }).await.expect("set");
    assert_eq!(refused(cid.send(team, hi()).await).0, ErrorCode::NotAllowed);
    ann.set_policy(team, Policy::default()).await.expect("set");
    cluster.start(leader);
}

async fn hand_over(people: &People) {
    let People { ann, bob, cid, team, .. } = people;
    ann.hand_over(team, user("bob")).await.expect("handed over");
    assert_eq!(refused(ann.set_policy(team, Policy::default()).await).0, ErrorCode::NotAllowed);
    assert_eq!(refused(ann.remove_members(team, &[user("bob")]).await).0, ErrorCode::NotAllowed);
    let seen = info(cid, team).await;
    assert_eq!((seen.owner, seen.role), (Some(user("bob")), Some(MemberRole::Member)));
    bob.set_role(team, user("ann"), MemberRole::Member).await.expect("a plain member");
}

/// When the ACK is there no list names the group any more, on whichever node; nothing of it is read or accepted.
async fn the_end(people: &People) {
    let People { ann, bob, cid, shop, team, .. } = people;
    assert_eq!(refused(ann.dissolve(team).await).0, ErrorCode::NotAllowed);
    let last = bob.dissolve(team).await.expect("dissolved");
    for client in [ann, bob, cid] {
        assert!(client.sync().await.expect("a list").sessions.is_empty());
        let (code, taken) = refused(client.send(team, Outgoing::text("hello?")).await);
        assert_eq!(code, ErrorCode::Dissolved);
        assert!(taken > 0, "members of it have numbers here for ever");
        let page = client.pull(team, 1, Direction::Forward, 10, Consistency::Linearizable).await;
        assert_eq!(page.expect_err("no history").code(), Some(ErrorCode::Dissolved));
        assert_eq!(client.group_info(team).await.expect_err("nothing").code(), Some(ErrorCode::Dissolved));
    }
    let again = cid.create_group(GroupId::new("team").expect("a name"), &[]).await;
    assert_eq!(refused(again).0, ErrorCode::Dissolved);
    let seen = info(shop, team).await;
    assert!(seen.dissolved && seen.members == 0 && seen.owner.is_none());
    let page = shop.pull(team, last.seq, Direction::Forward, 10, Consistency::Linearizable).await;
    assert_eq!(page.expect("a service reads on").last_seq, last.seq);
}
