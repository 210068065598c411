//! An offline pull that is cut short, at whichever of its steps and from whichever side, leaves what the user has read and
//! been delivered as it was: pulling writes nothing.

use rookery_client::Outgoing;
use rookery_wire::frame::frame_bytes;
use rookery_wire::live::{ReceiptPage, Receipts, Which};
use rookery_wire::own::Badge;
use rookery_wire::reply::{Page, ReadMark, Summary};
use rookery_wire::request::{self, Consistency, Delivered, Direction, Hello, Pull, Sync};
use rookery_wire::{Blob, Kind, SessionId};

use super::fixture::{Cluster, Plan, play, until};
use super::people::{Raw, Wire, app, contents, direct, hello, read};

/// Messages, and how much each has beside its number: a page of them is far more than two kernels hold.
const MESSAGES: u64 = 500;
const PADDING: usize = 1000;
/// What the device had before it went away.
const DELIVERED: u64 = 60;
const READ: u64 = 50;

/// How far the pull gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Connected,
    Greeted,
    SyncAsked,
    SyncAnswered,
    PullAsked,
    HalfRead,
    PageRead,
}

const STEPS: [Step; 7] = [
    Step::Connected,
    Step::Greeted,
    Step::SyncAsked,
    Step::SyncAnswered,
    Step::PullAsked,
    Step::HalfRead,
    Step::PageRead,
];

/// Everything that a pull must not move.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    /// The user's line of the session, as the other device sees it: cursor, counts, seqs.
    line: Summary,
    badge: Option<Badge>,
    /// The line of the device that pulls, with its own delivered cursor.
    own: Summary,
    /// The other user is told how far it was read.
    receipts: ReceiptPage,
}

struct Scene {
    cluster: Cluster,
    session: SessionId,
    /// The device that pulls, as it is registered.
    phone: Hello,
    texts: Vec<String>,
}

#[test]
fn an_offline_pull_cut_at_any_step_moves_no_cursor_and_no_count() {
    play(async {
        let mut scene = scene().await;
        let before = facts(&scene, &[1, 2, 3]).await;
        assert_eq!((before.line.read_seq, before.line.unread), (READ, MESSAGES - READ));
        assert_eq!((before.own.delivered_seq, before.line.delivered_seq), (DELIVERED, 0));
        assert_eq!((before.line.last_seq, before.line.count), (MESSAGES, MESSAGES));
        for (number, step) in STEPS.into_iter().enumerate() {
            // Every node in turn, so that some hold the session's leader and some do not.
            let node = number as u16 % 3 + 1;
            let cut = up_to(&scene, node, step).await;
            drop(cut);
            settled(&scene, node).await;
            assert_eq!(facts(&scene, &[1, 2, 3]).await, before, "its client was cut after {step:?}");
        }
        everything(&scene, 2).await;
        for step in [Step::SyncAsked, Step::PullAsked, Step::HalfRead, Step::PageRead] {
            let node = scene.cluster.leader_of(&scene.session).await;
            let others: Vec<u16> = scene.cluster.ids().into_iter().filter(|id| *id != node).collect();
            let cut = up_to(&scene, node, step).await;
            scene.cluster.kill(node);
            drop(cut);
            assert_eq!(facts(&scene, &others).await, before, "its node was killed after {step:?}");
            everything(&scene, others[0]).await;
            scene.cluster.start(node);
            scene.cluster.serving().await;
            scene.cluster.level().await;
            assert_eq!(facts(&scene, &[node]).await, before, "and the node is back after {step:?}");
        }
        the_whole_of_it(&scene, &before).await;
    });
}

/// A session with more in it than the phone has had, and the phone away.
async fn scene() -> Scene {
    let cluster = Cluster::up(Plan::new(3, 3)).await;
    let session = direct("xanthe", "yorick");
    let (yorick, _events) = app(&cluster, &[1, 2, 3], "yorick", "phone").await;
    let texts: Vec<String> =
        (1..=MESSAGES).map(|number| format!("{number} {}", "x".repeat(PADDING))).collect();
    let mut waiting = Vec::new();
    for text in &texts {
        waiting.push(yorick.send_pipelined(&session, Outgoing::text(text)).await.expect("a place"));
    }
    for ack in waiting {
        ack.await.expect("stored");
    }
    yorick.close().await;
    let mut phone = Wire::of(&cluster, 1, "xanthe", "phone").await;
    let delivered = Delivered { cursors: vec![(session.clone(), DELIVERED)] };
    phone.ask::<_, ()>(Kind::Delivered, &delivered).await.expect("durable");
    let mark = request::Read { session: session.clone(), seq: READ };
    phone.ask::<_, ReadMark>(Kind::Read, &mark).await.expect("read");
    let known = Hello { epoch: phone.welcome.epoch, ..hello("xanthe", "phone") };
    drop(phone);
    let scene = Scene { cluster, session, phone: known, texts };
    for node in 1..=3 {
        settled(&scene, node).await;
    }
    scene
}

/// The node has nobody's connection any more, so whatever was asked over one is answered or given up.
async fn settled(scene: &Scene, node: u16) {
    until("the node has let the connection go", async || {
        scene.cluster.status(node).await.is_some_and(|status| status.connections == 0)
    })
    .await;
}

/// What each of these nodes says, of which all must say the same.
async fn facts(scene: &Scene, nodes: &[u16]) -> Facts {
    let mut all = Vec::new();
    for node in nodes {
        let line = |page: &rookery_wire::reply::SyncPage| {
            assert_eq!((page.sessions.len(), page.unresolved.len()), (1, 0), "{page:?}");
            page.sessions[0].clone()
        };
        let mut desk = Wire::of(&scene.cluster, *node, "xanthe", "desk").await;
        let list = desk.sync().await;
        let mut phone = Wire::open(&scene.cluster.client(*node), &scene.phone).await.expect("welcome");
        let own = line(&phone.sync().await);
        let mut yorick = Wire::of(&scene.cluster, *node, "yorick", "watch").await;
        let session = scene.session.clone();
        let ask = Receipts { session, seq: READ + 1, which: Which::Unread, after: None, limit: 9 };
        let receipts: ReceiptPage = yorick.ask(Kind::Receipts, &ask).await.expect("a page");
        assert_eq!(receipts.users.len(), 1, "{receipts:?}");
        all.push(Facts { line: line(&list), badge: list.badge, own, receipts });
        drop((desk, phone, yorick));
        settled(scene, *node).await;
    }
    let first = all.swap_remove(0);
    assert!(all.iter().all(|other| *other == first), "{first:?} and {all:?}");
    first
}

fn pull(session: &SessionId, from_seq: u64) -> Pull {
    Pull {
        session: session.clone(),
        from_seq,
        direction: Direction::Forward,
        max_count: 500,
        max_bytes: 512 << 10,
        consistency: Consistency::Linearizable,
    }
}

/// The phone comes back and gets as far as that.
async fn up_to(scene: &Scene, node: u16, last: Step) -> Raw {
    let mut phone = Raw::narrow(&scene.cluster.client(node)).await;
    for step in STEPS {
        match step {
            Step::Connected => {}
            Step::Greeted => {
                let welcome = phone.greet(&scene.phone).await;
                assert_eq!(welcome.epoch, scene.phone.epoch, "it is the device that it was");
            }
            Step::SyncAsked => {
                let sync = Sync { after: Blob::default(), limit: 200, since: Blob::default() };
                phone.write(&frame_bytes(Kind::Sync, 2, &sync)).await;
            }
            Step::SyncAnswered => {
                let list: rookery_wire::reply::SyncPage = read(&phone.answer(2).await).expect("a list");
                assert_eq!(list.sessions[0].delivered_seq, DELIVERED);
            }
            Step::PullAsked => {
                phone.write(&frame_bytes(Kind::Pull, 3, &pull(&scene.session, DELIVERED + 1))).await;
            }
            Step::HalfRead => phone.bytes(200 << 10).await,
            Step::PageRead => {
                let page: Page = read(&phone.answer(3).await).expect("a page");
                assert_eq!((page.records[0].seq, page.last_seq), (DELIVERED + 1, MESSAGES));
                assert!(page.records.len() as u64 > (MESSAGES - DELIVERED) / 2, "{}", page.records.len());
            }
        }
        if step == last {
            break;
        }
    }
    phone
}

/// Another device pulls all there is.
async fn everything(scene: &Scene, node: u16) {
    let mut desk = Wire::of(&scene.cluster, node, "xanthe", "desk").await;
    let records = desk.pull(&scene.session, Consistency::Linearizable).await.expect("pages");
    assert_eq!(contents(&records), scene.texts);
    drop(desk);
    settled(scene, node).await;
}

/// Nobody cuts it: what the phone then says that it has and the user has read is what moves the cursors.
async fn the_whole_of_it(scene: &Scene, before: &Facts) {
    let mut phone = Wire::open(&scene.cluster.client(1), &scene.phone).await.expect("welcome");
    let records = phone.pull(&scene.session, Consistency::Linearizable).await.expect("pages");
    assert_eq!(contents(&records), scene.texts);
    drop(phone);
    settled(scene, 1).await;
    assert_eq!(facts(scene, &[1]).await, *before, "all of it was pulled and nothing said");
    let mut phone = Wire::open(&scene.cluster.client(2), &scene.phone).await.expect("welcome");
    let delivered = Delivered { cursors: vec![(scene.session.clone(), MESSAGES)] };
    phone.ask::<_, ()>(Kind::Delivered, &delivered).await.expect("durable");
    let mark = request::Read { session: scene.session.clone(), seq: MESSAGES };
    phone.ask::<_, ReadMark>(Kind::Read, &mark).await.expect("read");
    let line = phone.sync().await.sessions[0].clone();
    assert_eq!((line.delivered_seq, line.read_seq, line.unread), (MESSAGES, MESSAGES, 0));
}
