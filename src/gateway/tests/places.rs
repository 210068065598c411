//! One device, two nodes: the later connection stays, whatever the links do.

use rookery_raft::AppHandler;
use rookery_wire::reply::GoAway;

use super::*;

/// Two nodes and the link between them, which can be cut.
#[derive(Default)]
struct Pair {
    handlers: Mutex<HashMap<u16, Arc<dyn AppHandler>>>,
    link: Mutex<Option<watch::Sender<LinkState>>>,
}

struct End {
    node: u16,
    pair: Arc<Pair>,
}

impl Pair {
    fn state(&self) -> watch::Receiver<LinkState> {
        let up = LinkState { up: true, generation: 1, store: 0 };
        self.link.lock().get_or_insert_with(|| watch::channel(up).0).subscribe()
    }

    fn set(&self, up: bool) {
        drop(self.state());
        if let Some(link) = self.link.lock().as_ref() {
            link.send_modify(|state| {
                state.up = up;
                state.generation += u64::from(up);
            });
        }
    }
}

impl Peers for End {
    fn call(&self, node: u16, _: Bytes, _: Duration) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        Box::pin(async move { Err(PeerError::Down { node }) })
    }
    fn cast(&self, node: u16, body: Bytes) -> Result<(), PeerError> {
        if !self.pair.state().borrow().up {
            return Err(PeerError::Down { node });
        }
        let handler = self.pair.handlers.lock().get(&node).cloned();
        let me = self.node;
        // As a link's reader would: not on the caller's stack.
        tokio::spawn(async move {
            if let Some(handler) = handler {
                handler.cast(me, body);
            }
        });
        Ok(())
    }
    fn link(&self, _: u16) -> watch::Receiver<LinkState> {
        self.pair.state()
    }
    fn nodes(&self) -> Vec<u16> {
        vec![3 - self.node]
    }
}

async fn two() -> (Arc<Pair>, Bench, Bench) {
    let (pair, turns) = (Arc::new(Pair::default()), Arc::new(AtomicU64::new(0)));
    let end = |node| Arc::new(End { node, pair: Arc::clone(&pair) }) as Arc<dyn Peers>;
    let one = bench_at(1, 1, end(1), Arc::clone(&turns), |_, _| {}).await;
    let two = bench_at(2, 1, end(2), turns, |_, _| {}).await;
    for bench in [&one, &two] {
        pair.handlers.lock().insert(bench.shard.node, bench.router.handler());
    }
    (pair, one, two)
}

async fn replaced(client: &mut Client) {
    let (_, goodbye) = client.expect::<GoAway>(Kind::GoAway).await;
    assert_eq!(goodbye.code, ErrorCode::DeviceReplaced);
    client.closed().await;
}

#[tokio::test]
async fn a_device_that_connects_at_another_node_leaves_the_first() {
    let (pair, one, two) = two().await;
    let mut here = one.client("ada", "phone").await;
    let mut other = one.client("ada", "desk").await;
    let mut there = two.client("ada", "phone").await;
    replaced(&mut here).await;
    there.alive().await;
    other.alive().await;
    // And back again.
    let mut back = one.client("ada", "phone").await;
    replaced(&mut there).await;
    back.alive().await;
    until("one place each", || one.gateway.connections() == 2 && two.gateway.connections() == 0).await;
    pair.handlers.lock().clear();
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_link_that_was_cut_puts_right_what_it_missed() {
    let (pair, one, two) = two().await;
    let mut here = one.client("ada", "phone").await;
    pair.set(false);
    let mut there = two.client("ada", "phone").await;
    // Nobody can know; both serve.
    here.alive().await;
    there.alive().await;
    pair.set(true);
    replaced(&mut here).await;
    there.alive().await;
    pair.handlers.lock().clear();
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_node_that_is_gone_holds_no_place() {
    let (pair, one, two) = two().await;
    let there = two.client("ada", "phone").await;
    pair.set(false);
    pair.handlers.lock().remove(&2);
    two.stop().await;
    drop(there);
    let mut here = one.client("ada", "phone").await;
    pair.set(true);
    here.alive().await;
    pair.handlers.lock().clear();
    one.stop().await;
}
