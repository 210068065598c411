//! The business's side on a cluster: keys through deaths of leaders, the audit, and everything a backend may do.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use rookery_client::wire::admin::{AdminOutcome, AdminReply};
use rookery_client::wire::own::RelationFilter;
use rookery_client::{Client, ClientError, Options, Outgoing};
use rookery_wire::reply::Ack;
use rookery_wire::request::{Consistency, Direction, Role};
use rookery_wire::{
    AdminAction, AuditEntity, AuditLine, Blob, ErrorCode, GroupAction, GroupId, MemberRole, RecordKind,
    RequestKey, SessionId, UserAction,
};

use super::fixture::{Cluster, Plan, play};
use super::people::{app, contents, device, direct, group, replicas, say, texts, user};

/// The group of nodes that knows the cluster's facts and the audit.
const SYSTEM: u32 = 0;

/// A backend's connection; `nodes` in the order in which it tries them.
async fn backend(cluster: &Cluster, nodes: &[u16], what: &str) -> Client {
    let seeds: Vec<String> = nodes.iter().map(|id| cluster.client(*id)).collect();
    let mut options = Options::new(seeds, user("shop"), device(what));
    options.role = Role::Service;
    Client::connect(options).await.expect("welcome").0
}

fn key(name: &str) -> RequestKey {
    RequestKey::new(name).expect("a key")
}

fn text(session: &SessionId, text: &str) -> AdminAction {
    AdminAction::Send {
        session: session.clone(),
        content_type: Blob::from("text/plain"),
        content: Blob::from(text),
        extensions: Vec::new(),
    }
}

fn code(refused: Result<AdminReply, ClientError>) -> ErrorCode {
    match refused {
        Err(ClientError::Refused(body)) => body.code,
        other => panic!("{other:?}"),
    }
}

fn stored(reply: AdminReply) -> Ack {
    match reply.outcome {
        AdminOutcome::Stored(ack) => ack,
        other => panic!("{other:?}"),
    }
}

async fn whole_audit(client: &Client) -> Vec<AuditLine> {
    let mut lines = Vec::new();
    loop {
        let after = lines.last().map_or(0, |line: &AuditLine| line.number);
        let page = client.audit(after, 50).await.expect("a page");
        lines.extend(page.lines);
        if lines.last().map_or(0, |line| line.number) == page.last {
            return lines;
        }
    }
}

/// The session and the text of a request by its number: four sessions in turn.
fn wanted(sessions: &[SessionId], number: usize) -> (SessionId, String) {
    (sessions[number % sessions.len()].clone(), format!("order {number}"))
}

/// Asks for all of these by both backends at once; gives the answers, which are alike.
async fn by_both(
    backends: &[Client; 2],
    sessions: &[SessionId],
    numbers: std::ops::Range<usize>,
) -> BTreeMap<usize, (u64, Ack)> {
    let ask = |client: Client, number: usize| async move {
        let (session, words) = wanted(sessions, number);
        let reply = client.admin(key(&format!("order-{number}")), None, text(&session, &words)).await;
        let reply = reply.unwrap_or_else(|why| panic!("order {number}: {why}"));
        (number, (reply.audit, stored(reply)))
    };
    let asked = numbers.flat_map(|number| backends.iter().map(move |client| (client.clone(), number)));
    let answers = join_all(asked.map(|(client, number)| ask(client, number))).await;
    let mut known = BTreeMap::new();
    for (number, answer) in answers {
        let first = known.entry(number).or_insert_with(|| answer.clone());
        assert_eq!(*first, answer, "both have one answer to order {number}");
    }
    known
}

/// Every request is asked for by two connections at once, through two nodes, while leaders of sessions and of the audit
/// die: each has one effect, one answer for ever, one line.
#[test]
fn one_key_through_two_nodes_and_a_leaders_death_is_one_effect_and_one_line() {
    const EACH: usize = 24;
    play(async {
        let plan = Plan::new(3, 4).with("limits", "resident_idle_ms = 1000");
        let mut cluster = Cluster::up(plan.with("storage", "checkpoint_ms = 200")).await;
        let sessions = [direct("ann", "bob"), direct("ann", "cid"), direct("bob", "cid"), group("team")];
        let backends = [
            backend(&cluster, &[1, 2, 3], "backend-1").await,
            backend(&cluster, &[2, 3, 1], "backend-2").await,
        ];
        let team = AdminAction::CreateGroup {
            group: GroupId::new("team").expect("a name"),
            users: vec![user("ann"), user("bob")],
        };
        let made =
            stored(backends[0].admin(key("team"), Some(user("ann")), team.clone()).await.expect("made"));
        let mut known = by_both(&backends, &sessions, 0..EACH).await;

        for (round, of_audit) in [(1, false), (2, true), (3, false)] {
            let victim = match of_audit {
                true => cluster.board().await.leader(SYSTEM).expect("somebody leads"),
                false => cluster.leader_of(&sessions[round]).await,
            };
            let asked = tokio::spawn({
                let (backends, sessions) = (backends.clone(), sessions.clone());
                async move { by_both(&backends, &sessions, round * EACH..(round + 1) * EACH).await }
            });
            // The first of them are on their way.
            let (session, words) = wanted(&sessions, round * EACH);
            let first =
                backends[1].admin(key(&format!("order-{}", round * EACH)), None, text(&session, &words));
            first.await.expect("asked a third time");
            cluster.kill(victim);
            known.extend(asked.await.expect("no panic"));
            cluster.start(victim);
            cluster.serving().await;
        }
        holds(&cluster, &backends, &sessions, &known).await;

        // Everything at once, and again.
        cluster.ids().into_iter().for_each(|id| cluster.kill(id));
        cluster.start_all();
        cluster.serving().await;
        let again = by_both(&backends, &sessions, 0..4 * EACH).await;
        assert_eq!(again, known, "the first answers");
        let same = stored(backends[1].admin(key("team"), Some(user("ann")), team).await.expect("made"));
        assert_eq!(same, made);
        let other = backends[1].admin(key("order-1"), None, text(&wanted(&sessions, 1).0, "else")).await;
        assert_eq!(code(other), ErrorCode::KeyReused);
        holds(&cluster, &backends, &sessions, &known).await;
    });
}

/// One record and one line for each request, alike on all nodes.
async fn holds(
    cluster: &Cluster,
    backends: &[Client; 2],
    sessions: &[SessionId],
    known: &BTreeMap<usize, (u64, Ack)>,
) {
    for session in sessions {
        let records = replicas(cluster, &cluster.ids(), session).await;
        let told = contents(&records);
        let own: BTreeSet<String> = known
            .keys()
            .map(|number| wanted(sessions, *number))
            .filter(|(of, _)| of == session)
            .map(|(_, words)| words)
            .collect();
        assert_eq!(told.iter().cloned().collect::<BTreeSet<_>>(), own, "{session}");
        assert_eq!(told.len(), own.len(), "each is stored once in {session}");
    }
    let lines = whole_audit(&backends[0]).await;
    let numbers: Vec<u64> = lines.iter().map(|line| line.number).collect();
    assert_eq!(numbers, (1..=lines.len() as u64).collect::<Vec<_>>(), "without a gap");
    for (number, (audit, ack)) in known {
        let of_it: Vec<_> = lines
            .iter()
            .filter(|line| line.key == key(&format!("order-{number}")) && line.number == *audit)
            .collect();
        let [line] = of_it[..] else { panic!("order {number} has these lines: {of_it:?}") };
        assert_eq!(line.entity, AuditEntity::Session(ack.session.clone()));
        assert!((line.service == user("shop")) && line.on_behalf_of.is_none() && line.time_ms > 0);
    }
    let orders = lines.iter().filter(|line| line.key.as_str().starts_with("order-")).count();
    let others = lines.iter().filter(|line| line.key == key("order-1")).count() - 1;
    assert_eq!(orders - others, known.len(), "one line for each, and one for what was refused");
}

/// What a backend may do, one after the other.
#[test]
fn a_backend_makes_users_and_groups_and_sets_what_is_theirs() {
    play(async {
        let cluster = Cluster::up(Plan::new(3, 4)).await;
        let shop = backend(&cluster, &[2], "backend").await;
        let (ann, mut anns) = app(&cluster, &[1], "ann", "phone").await;
        let (bob, _bobs) = app(&cluster, &[3], "bob", "phone").await;
        let asked = ann.admin(key("k"), Some(user("ann")), text(&direct("ann", "bob"), "as a service")).await;
        assert_eq!(code(asked), ErrorCode::Forbidden, "ann is no service");
        assert!(
            matches!(ann.audit(0, 9).await, Err(ClientError::Refused(body)) if body.code == ErrorCode::Forbidden)
        );

        let create = |who: &str| AdminAction::CreateUser { user: user(who) };
        assert_eq!(code(shop.admin(key("u1"), None, create("ann")).await), ErrorCode::UserExists);
        shop.admin(key("u2"), None, create("eve")).await.expect("created");
        assert_eq!(code(shop.admin(key("u3"), None, create("eve")).await), ErrorCode::UserExists);

        // A group, its members, a role.
        let name = GroupId::new("team").expect("a name");
        let of = |users: &[&str]| users.iter().map(|name| user(name)).collect::<Vec<_>>();
        let made = AdminAction::CreateGroup { group: name.clone(), users: of(&["bob"]) };
        stored(shop.admin(key("g1"), Some(user("ann")), made).await.expect("made"));
        let add = AdminAction::AddMembers { group: name.clone(), users: of(&["cid"]) };
        stored(shop.admin(key("g2"), None, add).await.expect("added"));
        let role = GroupAction::SetRole { user: user("bob"), role: MemberRole::Admin };
        let role = AdminAction::Manage { group: name.clone(), action: role };
        stored(shop.admin(key("g3"), None, role).await.expect("an admin"));
        let remove = AdminAction::RemoveMembers { group: name.clone(), users: of(&["cid"]) };
        stored(shop.admin(key("g4"), Some(user("bob")), remove).await.expect("removed"));
        let info = bob.group_info(&group("team")).await.expect("a group");
        assert_eq!((info.owner, info.role, info.members), (Some(user("ann")), Some(MemberRole::Admin), 2));

        // As the system nothing stands in its way; in a user's name what the other has set does.
        let session = direct("ann", "bob");
        say(&bob, &session, texts("hello", 1)).await;
        let block = AdminAction::Own(UserAction::Block { user: user("bob") });
        shop.admin(key("b1"), Some(user("ann")), block.clone()).await.expect("blocked");
        shop.admin(key("b1"), Some(user("ann")), block).await.expect("the same");
        let refused = bob.send(&session, Outgoing::text("psst")).await.expect_err("blocked");
        assert!(matches!(refused, ClientError::Refused(body) if body.code == ErrorCode::RefusedByPeer));
        let as_bob = shop.admin(key("s1"), Some(user("bob")), text(&session, "as bob")).await;
        assert_eq!(code(as_bob), ErrorCode::RefusedByPeer);
        let ack =
            stored(shop.admin(key("s2"), None, text(&session, "your order")).await.expect("the system"));
        assert_eq!((ack.seq, ack.client_seq, ack.count), (2, 0, 2), "it counts");
        anns.up_to(&session, "your order").await;
        let line = ann.sync().await.expect("a list").sessions;
        let line = line.into_iter().find(|line| line.session == session).expect("the session");
        assert_eq!(line.unread, 2, "hers to read like any other");
        let edit = AdminAction::Edit {
            session: session.clone(),
            seq: 2,
            content_type: Blob::from("text/plain"),
            content: Blob::from("your order, again"),
            extensions: Vec::new(),
        };
        stored(shop.admin(key("s3"), None, edit).await.expect("edited"));
        let recall = AdminAction::Recall { session: session.clone(), seq: 1 };
        stored(shop.admin(key("s4"), None, recall).await.expect("recalled"));

        // What a service reads, and exports page by page.
        let page =
            shop.pull(&session, 1, Direction::Forward, 500, Consistency::Linearizable).await.expect("a page");
        let told: Vec<_> = page.records.iter().map(|record| (record.kind, record.sender.as_str())).collect();
        assert_eq!(told[..2], [(RecordKind::RECALLED, "bob"), (RecordKind::CONTENT, "shop")]);
        assert_eq!(contents(&page.records), ["your order, again"]);
        let (sessions, more) = shop.sessions_of(user("ann"), None, 1000).await.expect("her sessions");
        let names: BTreeSet<_> = sessions.into_iter().map(|line| line.session).collect();
        assert_eq!((names, more), (BTreeSet::from([session, group("team")]), false));
        let relations = shop.relations_of(user("ann"), RelationFilter::Blocked, None, 9).await.expect("hers");
        assert_eq!(relations.relations[0].user, user("bob"));
        assert_eq!(shop.devices_of(user("ann"), None, 9).await.expect("hers").devices.len(), 1);

        // A device, from outside.
        let end = AdminAction::Own(UserAction::EndDevice { device: device("phone") });
        shop.admin(key("d1"), Some(user("ann")), end).await.expect("ended");
        assert!(shop.devices_of(user("ann"), None, 9).await.expect("hers").devices.is_empty());
        let lines = whole_audit(&shop).await;
        let of_devices: Vec<_> = lines.iter().filter(|line| line.key == key("d1")).collect();
        assert_eq!((of_devices[0].action, of_devices[0].part, of_devices.len()), (7, 13, 1));
        assert_eq!(lines.iter().filter(|line| line.key == key("b1")).count(), 1);
    });
}
