//! Reads every replica of every session from the node that holds it, as it is, once the cluster has gone quiet.

use std::collections::BTreeMap;
use std::time::Duration;

use rookery_wire::digest::{DigestAt, DigestReply};
use rookery_wire::reply::{MemberPage, Page};
use rookery_wire::request::{Consistency, Direction, Hello, ListMembers, Pull, Role};
use rookery_wire::{
    Blob, DeviceId, Digest, ErrorBody, ErrorCode, Frame, Kind, Record, RecordKind, Retry, SessionId, Signal,
    UserId, decode,
};
use tokio::time::{Instant, sleep, timeout};

use super::cast::Cast;
use super::history::{Dump, Entry, Roster, Seal, SessionIx, Witness};
use super::link::{Link, LinkFault, body};
use super::print::{Parts, lasts_ms, target_of};
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
    /// Digests, as the replicas say and as their records come to.
    pub seals: Vec<Seal>,
    /// Those that could not be read.
    pub unread: Vec<(u16, SessionIx, String)>,
}

impl Dumps {
    /// The last seq of each session, by its longest replica.
    pub fn heads(&self) -> BTreeMap<SessionIx, u64> {
        let mut heads = BTreeMap::new();
        for dump in &self.dumps {
            let head = heads.entry(dump.session).or_insert(0);
            *head = (*head).max(last_of(dump));
        }
        heads
    }

    /// Whether all replicas of each session are equally long, and have let go of what they are to let go of by now.
    fn even(&self, cast: &Cast) -> bool {
        let heads = self.heads();
        let keeps = |dump: &Dump| {
            let group = cast.groups.iter().find(|group| group.session == dump.session);
            group.and_then(|group| group.keep).is_none_or(|keep| dump.entries.len() as u64 <= keep)
        };
        // They are read when everything that lasts for a time is over.
        let lasts = |entry: &Entry| entry.lasts_ms > 0 && entry.kind == RecordKind::CONTENT.0;
        let still = |dump: &Dump| dump.entries.iter().any(lasts);
        let even = |dump: &Dump| heads.get(&dump.session) == Some(&last_of(dump));
        self.dumps.iter().all(|dump| even(dump) && keeps(dump) && !still(dump))
    }
}

/// The last seq of a replica.
fn last_of(dump: &Dump) -> u64 {
    dump.entries.last().map_or(0, |entry| entry.seq)
}

/// Why something could not be read.
pub(super) enum Fault {
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
        if (all.even(&stage.cast) && all.unread.is_empty()) || late {
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
        let at = stage.now();
        match read_session(stage, &mut link, node, session).await {
            Ok((entries, seals)) => {
                all.dumps.push(Dump { node, session, at, entries });
                all.seals.extend(seals);
            }
            Err(Fault::Refused(error)) if error.code == ErrorCode::NoReplica => {}
            // A pair that never spoke, or of which there is only that one blocks the other: every replica holds nothing.
            Err(Fault::Refused(error)) if error.code == ErrorCode::NoSuchSession => {
                all.dumps.push(Dump { node, session, at, entries: Vec::new() });
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
    connect_as(stage, user, &format!("dump-{node}"), addr).await
}

/// Connects as a service, which may read everything.
pub(super) async fn connect_as(
    stage: &Stage,
    user: &UserId,
    device: &str,
    addr: &str,
) -> Result<Link, LinkFault> {
    let device = DeviceId::new(device).map_err(|_| LinkFault::Closed)?;
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

/// Everything a replica keeps of a session, what its records come to, and what it says they come to.
async fn read_session(
    stage: &Stage,
    link: &mut Link,
    node: u16,
    session: SessionIx,
) -> Result<(Vec<Entry>, Vec<Seal>), Fault> {
    let name = stage.cast.session(session).cloned().ok_or(LinkFault::Closed)?;
    let mut entries: Vec<Entry> = Vec::new();
    let mut digest = Digest::begin(&name);
    loop {
        let from_seq = entries.last().map_or(1, |entry| entry.seq + 1);
        let page = pull(link, &name, from_seq).await?;
        if stage.parts.digests && entries.is_empty() && page.first_seq > 1 {
            digest = digest_of(link, &name, page.first_seq - 1).await?.digest;
        }
        for record in &page.records {
            digest = digest.then_record(record);
            entries.push(entry(&stage.cast, record));
        }
        let last = entries.last().map_or(0, |entry| entry.seq);
        if page.records.is_empty() || last >= page.last_seq {
            break;
        }
    }
    let mut seals = Vec::new();
    if let Some(last) = entries.last().filter(|_| stage.parts.digests) {
        let (seq, at) = (last.seq, stage.now());
        seals.push(Seal { witness: Witness::Records(node), session, seq, digest, at });
        let digest = digest_of(link, &name, seq).await?.digest;
        seals.push(Seal { witness: Witness::Replica(node), session, seq, digest, at });
    }
    Ok((entries, seals))
}

/// A page of the replica of the node at the other end.
pub(super) async fn pull(link: &mut Link, session: &SessionId, from_seq: u64) -> Result<Page, Fault> {
    let pull = Pull {
        session: session.clone(),
        from_seq,
        direction: Direction::Forward,
        max_count: RECORDS,
        max_bytes: BYTES,
        consistency: Consistency::Replica,
    };
    Ok(body(&ask(link, Kind::Pull, &pull, Kind::Page).await?)?)
}

/// The digest at a seq, as the replica of the node at the other end has it.
async fn digest_of(link: &mut Link, session: &SessionId, seq: u64) -> Result<DigestReply, Fault> {
    let ask_for = DigestAt { session: session.clone(), seq, consistency: Consistency::Replica };
    Ok(body(&ask(link, Kind::Digest, &ask_for, Kind::DigestReply).await?)?)
}

/// The digests of all replicas while the load goes on, of each session where the shortest of them ends. Who cannot be asked
/// now is asked after the next round.
pub async fn seals(stage: &Stage, user: &UserId) -> Vec<Seal> {
    let mut seals = Vec::new();
    if !stage.parts.digests {
        return seals;
    }
    let mut links = Vec::new();
    for (node, addr) in &stage.nodes {
        if let Ok(link) = connect(stage, user, *node, addr).await {
            links.push((*node, link));
        }
    }
    for at in 0..stage.cast.names.sessions.len() as u32 {
        let session = SessionIx(at);
        let Some(name) = stage.cast.session(session) else { continue };
        let mut ends = Vec::new();
        for (_, link) in &mut links {
            ends.extend(digest_of(link, name, 0).await.ok().map(|reply| reply.seq));
        }
        let Some(seq) = ends.into_iter().min().filter(|seq| *seq > 0) else { continue };
        for (node, link) in &mut links {
            let Ok(reply) = digest_of(link, name, seq).await else { continue };
            let (witness, digest, at) = (Witness::Replica(*node), reply.digest, stage.now());
            seals.push(Seal { witness, session, seq, digest, at });
        }
    }
    seals
}

/// Asks, and asks again as long as that can help.
pub(super) async fn ask<T: bincode::Encode>(
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

/// What is written down of a record.
pub(super) fn entry(cast: &Cast, record: &Record) -> Entry {
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
        lasts_ms: lasts_ms(record),
        stem: parts.stem,
        mark: parts.mark,
        print: parts.print(),
    }
}
