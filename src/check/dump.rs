//! Reads every replica of every session from the node that holds it, as it is, once the cluster has gone quiet.

use std::collections::BTreeMap;
use std::time::Duration;

use rookery_wire::reply::{MemberPage, Page};
use rookery_wire::request::{Consistency, Direction, Hello, ListMembers, Pull, Role};
use rookery_wire::{
    Blob, DeviceId, ErrorBody, ErrorCode, Frame, Kind, Record, RecordKind, Retry, SessionId, Signal, UserId,
    decode,
};
use tokio::time::{Instant, sleep, timeout};

use super::cast::Cast;
use super::history::{Dump, Entry, Roster, SessionIx};
use super::link::{Link, LinkFault, body};
use super::print::{Parts, target_of};
use super::stage::Stage;

/// One page may take this long.
const PAGE: Duration = Duration::from_secs(5);
/// Replicas may need so long to catch up with each other after the last ack.
const SETTLE: Duration = Duration::from_secs(20);
/// Records asked for in a page.
const RECORDS: u32 = 1_000;
/// Bytes asked for in a page.
const BYTES: u32 = 768 << 10;

/// What reading all replicas gave.
#[derive(Debug, Default)]
pub struct Dumps {
    /// Replicas.
    pub dumps: Vec<Dump>,
    /// Members of the groups, by every node.
    pub rosters: Vec<Roster>,
    /// Those that could not be read.
    pub unread: Vec<(u16, SessionIx, String)>,
}

impl Dumps {
    /// The last seq of each session, by its longest replica.
    pub fn heads(&self) -> BTreeMap<SessionIx, u64> {
        let mut heads = BTreeMap::new();
        for dump in &self.dumps {
            let head = heads.entry(dump.session).or_insert(0);
            *head = (*head).max(dump.entries.len() as u64);
        }
        heads
    }

    /// Whether all replicas of each session are equally long.
    fn even(&self) -> bool {
        let heads = self.heads();
        self.dumps.iter().all(|dump| heads.get(&dump.session) == Some(&(dump.entries.len() as u64)))
    }
}

enum Fault {
    Link(LinkFault),
    Refused(ErrorBody),
}

impl From<LinkFault> for Fault {
    fn from(fault: LinkFault) -> Self {
        Self::Link(fault)
    }
}

/// Reads all replicas; again, while one is behind the others and there is time.
pub async fn read(stage: &Stage, user: &UserId) -> Dumps {
    let until = Instant::now() + SETTLE;
    loop {
        let mut all = Dumps::default();
        for (node, addr) in &stage.nodes {
            read_node(stage, user, *node, addr, &mut all).await;
        }
        let late = Instant::now() >= until;
        if (all.even() && all.unread.is_empty()) || late {
            return all;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

async fn read_node(stage: &Stage, user: &UserId, node: u16, addr: &str, all: &mut Dumps) {
    let sessions = 0..stage.cast.names.sessions.len() as u32;
    let mut link = match connect(stage, user, node, addr).await {
        Ok(link) => link,
        Err(fault) => {
            all.unread.extend(sessions.map(|session| (node, SessionIx(session), fault.to_string())));
            return;
        }
    };
    for session in sessions.map(SessionIx) {
        match read_session(stage, &mut link, session).await {
            Ok(entries) => all.dumps.push(Dump { node, session, entries }),
            Err(Fault::Refused(error)) if error.code == ErrorCode::NoReplica => {}
            // A pair that never spoke, or of which there is only that one blocks the other: every replica holds nothing.
            Err(Fault::Refused(error)) if error.code == ErrorCode::NoSuchSession => {
                all.dumps.push(Dump { node, session, entries: Vec::new() });
            }
            Err(Fault::Refused(error)) => all.unread.push((node, session, error.to_string())),
            Err(Fault::Link(fault)) => {
                all.unread.push((node, session, fault.to_string()));
                match connect(stage, user, node, addr).await {
                    Ok(again) => link = again,
                    Err(_) => return,
                }
            }
        }
    }
    for (at, name) in stage.cast.names.sessions.iter().enumerate() {
        if !matches!(name, SessionId::Group(_)) {
            continue;
        }
        let session = SessionIx(at as u32);
        match read_members(stage, &mut link, node, session).await {
            Ok(roster) => all.rosters.push(roster),
            // A group that never came to be.
            Err(Fault::Refused(error)) if error.code == ErrorCode::NoSuchSession => {}
            Err(Fault::Refused(error)) => all.unread.push((node, session, error.to_string())),
            Err(Fault::Link(fault)) => {
                all.unread.push((node, session, fault.to_string()));
                return;
            }
        }
    }
}

async fn read_members(
    stage: &Stage,
    link: &mut Link,
    node: u16,
    session: SessionIx,
) -> Result<Roster, Fault> {
    let name = stage.cast.session(session).cloned().ok_or(LinkFault::Closed)?;
    let mut roster = Roster { node, session, users: Vec::new(), total: 0 };
    let mut after = None;
    loop {
        let list = ListMembers { session: name.clone(), after: after.take(), limit: RECORDS };
        let page: MemberPage = body(&ask(link, Kind::ListMembers, &list, Kind::MemberPage).await?)?;
        roster.users.extend(page.users.iter().filter_map(|user| stage.cast.find_user(user)));
        roster.total = page.total;
        after = page.users.last().filter(|_| page.more).cloned();
        if after.is_none() {
            return Ok(roster);
        }
    }
}

async fn connect(stage: &Stage, user: &UserId, node: u16, addr: &str) -> Result<Link, LinkFault> {
    let device = DeviceId::new(&format!("dump-{node}")).map_err(|_| LinkFault::Closed)?;
    let hello = Hello {
        min_version: rookery_wire::VERSION,
        max_version: rookery_wire::VERSION,
        user: user.clone(),
        device,
        epoch: 0,
        nonce: stage.now() | 1,
        role: Role::Service,
        token: Blob::from(stage.token.as_str()),
        agent: Blob::from("rookery check dump"),
        platform: Blob::default(),
    };
    Link::open(addr, &hello).await.map(|(link, _)| link)
}

async fn read_session(stage: &Stage, link: &mut Link, session: SessionIx) -> Result<Vec<Entry>, Fault> {
    let name = stage.cast.session(session).cloned().ok_or(LinkFault::Closed)?;
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let from_seq = entries.last().map_or(1, |entry| entry.seq + 1);
        let pull = Pull {
            session: name.clone(),
            from_seq,
            direction: Direction::Forward,
            max_count: RECORDS,
            max_bytes: BYTES,
            consistency: Consistency::Replica,
        };
        let page: Page = body(&ask(link, Kind::Pull, &pull, Kind::Page).await?)?;
        entries.extend(page.records.iter().map(|record| entry(&stage.cast, record)));
        let last = entries.last().map_or(0, |entry| entry.seq);
        if page.records.is_empty() || last >= page.last_seq {
            return Ok(entries);
        }
    }
}

/// Asks, and asks again as long as that can help.
async fn ask<T: bincode::Encode>(
    link: &mut Link,
    kind: Kind,
    request: &T,
    wanted: Kind,
) -> Result<Frame, Fault> {
    let until = Instant::now() + PAGE;
    loop {
        let id = link.ask(kind, request);
        link.flush().await?;
        let answer = async {
            loop {
                let frame = link.next().await?;
                if frame.request_id == id {
                    return Ok::<_, LinkFault>(frame);
                }
            }
        };
        let frame = timeout(PAGE, answer).await.map_err(|_| LinkFault::Deadline("a page"))??;
        if frame.kind == wanted as u8 {
            return Ok(frame);
        }
        let error: ErrorBody = body(&frame)?;
        match error.retry {
            Retry::After(hint) if Instant::now() < until => {
                sleep(Duration::from_millis(u64::from(hint.clamp(1, 500)))).await;
            }
            _ => return Err(Fault::Refused(error)),
        }
    }
}

fn entry(cast: &Cast, record: &Record) -> Entry {
    let of_members =
        matches!(record.kind, RecordKind::CREATED | RecordKind::MEMBERS_ADDED | RecordKind::MEMBERS_REMOVED);
    let users = match of_members.then(|| decode::<Signal>(&record.content.0)) {
        Some(Ok(signal)) => signal.users.iter().filter_map(|user| cast.find_user(user)).collect(),
        _ => Vec::new(),
    };
    let parts = Parts::of(record);
    Entry {
        seq: record.seq,
        message_id: record.message_id,
        time_ms: record.time_ms,
        count: record.count,
        sender: cast.find_user(&record.sender),
        device: cast.find_device(&record.sender, &record.device),
        epoch: record.epoch,
        client_seq: record.client_seq,
        kind: record.kind.0,
        hash: parts.hash,
        users,
        target: target_of(record),
        stem: parts.stem,
        mark: parts.mark,
        print: parts.print(),
    }
}
