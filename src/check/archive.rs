//! Reads what is going to be trimmed before it is, so that the judge knows the whole log of a group that keeps its last
//! records only.
//!
//! One task per node follows the node's own replicas; what one misses while its node is away the others have. It owns what
//! was read, as it stood when it was seen first. It must never be asked what a session holds now: that say the replicas.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rookery_wire::UserId;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::dump::{self, Fault};
use super::history::{Dump, Entry, SessionIx};
use super::link::Link;
use super::stage::Stage;

/// Pause between two looks; much less than the cluster needs to write and trim as much as a group keeps.
const LOOK: Duration = Duration::from_millis(100);
/// A look that takes longer is given up, with its connection.
const PATIENCE: Duration = Duration::from_secs(1);

/// What was read, by session and seq.
type Known = Arc<Mutex<BTreeMap<SessionIx, BTreeMap<u64, Entry>>>>;

/// The tasks, which end with this, and what they have read.
#[derive(Debug)]
pub struct Archive {
    known: Known,
    _tasks: JoinSet<()>,
}

impl Archive {
    /// Begins to read the groups that keep their last records only.
    pub fn begin(stage: &Arc<Stage>, user: &UserId) -> Self {
        let groups = stage.cast.groups.iter().filter(|group| group.keep.is_some());
        let sessions: Vec<SessionIx> = groups.map(|group| group.session).collect();
        let (known, mut tasks) = (Known::default(), JoinSet::new());
        for (node, addr) in stage.nodes.iter().filter(|_| !sessions.is_empty()) {
            let device = format!("archive-{node}");
            let (stage, user, addr) = (stage.clone(), user.clone(), addr.clone());
            tasks.spawn(follow(stage, user, device, addr, sessions.clone(), known.clone()));
        }
        Self { known, _tasks: tasks }
    }

    /// The highest seq of the session that has come furthest; 0 before anything was read.
    pub fn furthest(&self) -> u64 {
        let known = self.known.lock();
        known.values().filter_map(|entries| entries.last_key_value()).map(|(seq, _)| *seq).max().unwrap_or(0)
    }

    /// What was read of what the replicas keep no more.
    pub fn before(&self, dumps: &[Dump]) -> Vec<(SessionIx, Vec<Entry>)> {
        let known = self.known.lock();
        let kept = |session: &SessionIx| {
            let of_session = dumps.iter().filter(|dump| dump.session == *session);
            of_session.filter_map(|dump| dump.entries.first()).map(|entry| entry.seq).max().unwrap_or(1)
        };
        let before = |(session, entries): (&SessionIx, &BTreeMap<u64, Entry>)| {
            (*session, entries.range(..kept(session)).map(|(_, entry)| entry.clone()).collect())
        };
        known.iter().map(before).collect()
    }
}

/// Follows the replicas of one node until it is aborted.
async fn follow(
    stage: Arc<Stage>,
    user: UserId,
    device: String,
    addr: String,
    sessions: Vec<SessionIx>,
    known: Known,
) {
    loop {
        if let Ok(mut link) = dump::connect_as(&stage, &user, &device, &addr).await {
            while let Ok(Ok(())) = timeout(PATIENCE, look(&stage, &mut link, &sessions, &known)).await {
                sleep(LOOK).await;
            }
        }
        sleep(LOOK).await;
    }
}

async fn look(stage: &Stage, link: &mut Link, sessions: &[SessionIx], known: &Known) -> Result<(), Fault> {
    for session in sessions {
        let Some(name) = stage.cast.session(*session) else { continue };
        let from =
            known.lock().get(session).and_then(|known| known.last_key_value()).map_or(1, |(seq, _)| seq + 1);
        match dump::pull(link, name, from).await {
            Ok(page) => {
                let mut known = known.lock();
                let known = known.entry(*session).or_default();
                for record in &page.records {
                    known.entry(record.seq).or_insert_with(|| dump::entry(&stage.cast, record));
                }
            }
            // Not there yet, or not on this node.
            Err(Fault::Refused(_)) => {}
            Err(Fault::Link(fault)) => return Err(Fault::Link(fault)),
        }
    }
    Ok(())
}
