//! Random acts of four users with two devices each, through all nodes, one after another, against the plain reference of
//! [`super::reference`]: every answer must be the reference's, also of the act during which a node is killed; and in the
//! end every node must hold and show what the reference does.
//!
//! `ROOKERY_MODEL_SEED` plays a run again, `ROOKERY_MODEL_STEPS` makes it longer.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rookery_client::wire::join::Outside;
use rookery_client::wire::live::Which;
use rookery_client::wire::own::{RelationFilter, RelationPage};
use rookery_client::{Client, ClientError, InviteCode, Mark, Outgoing};
use rookery_wire::own::ListRelations;
use rookery_wire::reply::{Ack, Summary};
use rookery_wire::request::{Consistency, Direction};
use rookery_wire::{
    Blob, ErrorCode, GroupAction, Join, Kind, MemberRole, Policy, Record, Rewritten, SessionId,
    SessionSetting, UserAction, UserId, Who, decode,
};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::fixture::{Cluster, Plan, play};
use super::people::{Wire, app, direct, group, user};
use super::reference::{Answer, Line, Op, Set, Shown, World};

const NAMES: [&str; 4] = ["ann", "bob", "cid", "dan"];
const GROUPS: [&str; 4] = ["rooks", "crows", "jays", "pies"];
/// Acts, unless the environment says otherwise.
const STEPS: usize = 1_200;
/// No more are begun after this, so that the whole takes at most a minute on a slow machine; so many there must be.
const TIME: Duration = Duration::from_secs(35);
const LEAST: usize = 150;
/// Acts told before the first that went wrong.
const TOLD: usize = 30;
/// Wrong answers told.
const FAULTS: usize = 5;

/// Whether it says that there is nothing of the kind.
fn is_none(answer: &Answer) -> bool {
    let none = [ErrorCode::NoSuchSession, ErrorCode::NotMember, ErrorCode::NoSuchMessage];
    matches!(answer, Answer::Refused(code) if none.contains(code))
}

/// A number from the environment.
fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn sessions() -> Vec<SessionId> {
    let pairs = NAMES.iter().enumerate();
    let pairs = pairs.flat_map(|(at, one)| NAMES[at + 1..].iter().map(|other| direct(one, other)));
    pairs.chain(GROUPS.iter().map(|name| group(name))).collect()
}

/// What somebody may want to do next.
struct Wishes {
    random: StdRng,
    sessions: Vec<SessionId>,
    said: u32,
    /// Until when codes of invitation are good: longer than a run.
    until_ms: u64,
}

impl Wishes {
    /// A message of a session: mostly one of the newest, now and then one beyond the end.
    fn seq(&mut self, world: &World, session: &SessionId) -> u64 {
        let last = world.last(session);
        match self.random.random_range(0..30) {
            0 => last + 1,
            1..8 => self.random.random_range(1..=last.max(1)),
            _ => last.saturating_sub(self.random.random_range(0..10)).max(1),
        }
    }

    fn session(&mut self, me: &UserId) -> SessionId {
        let mine: Vec<&SessionId> =
            self.sessions.iter().filter(|session| session.pair_has(me) != Some(false)).collect();
        (*mine.choose(&mut self.random).expect("some")).clone()
    }

    fn group(&mut self) -> SessionId {
        group(GROUPS.choose(&mut self.random).expect("some"))
    }

    fn somebody(&mut self) -> UserId {
        user(NAMES.choose(&mut self.random).expect("some"))
    }

    fn other(&mut self, me: &UserId) -> UserId {
        loop {
            let other = self.somebody();
            if other != *me {
                return other;
            }
        }
    }

    fn some(&mut self) -> Vec<UserId> {
        let count = self.random.random_range(1..3);
        let mut users: Vec<UserId> = (0..count).map(|_| self.somebody()).collect();
        users.dedup();
        users
    }

    fn text(&mut self) -> String {
        self.said += 1;
        format!("what is said as number {}", self.said)
    }

    fn next(&mut self, world: &World, me: &UserId) -> Op {
        let session = self.session(me);
        let seq = self.seq(world, &session);
        match self.random.random_range(0..100) {
            0..30 => Op::Send(session, self.text()),
            30..36 => Op::Recall(session, seq),
            36..42 => Op::Edit(session, seq, self.text()),
            42..50 => Op::Read(session, seq),
            50 => Op::ReadAll,
            51..53 => Op::Clear(session, seq),
            53..56 => Op::Delete(session, seq.saturating_sub(self.random.random_range(0..4)).max(1), seq),
            56..61 => self.of_people(world, me),
            61..64 => Op::Set(session, self.setting()),
            64..74 if self.random.random_bool(0.5) => self.of_doors(world, me),
            64..74 => self.of_groups(world, me),
            74..81 => Op::Pull {
                session,
                from: if self.random.random_bool(0.3) { 1 } else { seq },
                backward: self.random.random_bool(0.5),
                max: self.random.random_range(1..40),
            },
            81..85 => Op::List,
            85..89 => Op::Since,
            89 => Op::Asking(self.group()),
            90 => Op::Members(session),
            91..94 => Op::Relations,
            _ => {
                let which = if self.random.random_bool(0.5) { Which::Read } else { Which::Unread };
                Op::Receipts(session, seq, which)
            }
        }
    }

    fn of_people(&mut self, world: &World, me: &UserId) -> Op {
        let other = self.other(me);
        match self.random.random_range(0..8) {
            // One who is blocked is declined by the other side, a moment after it was answered.
            0 | 1 if !world.blocks(&other, me) => Op::AskFriend(other),
            0..3 => Op::Accept(other),
            3 => Op::Decline(other),
            4 => Op::Unfriend(other),
            5 => Op::Block(other, true),
            _ => Op::Block(other, false),
        }
    }

    fn setting(&mut self) -> SessionSetting {
        let number = self.random.random_range(0..4);
        match self.random.random_range(0..5) {
            0 => SessionSetting::Pin((number > 0).then_some(number)),
            1 => SessionSetting::Hide((number > 0).then_some(number)),
            2 => SessionSetting::MarkUnread(number > 0),
            3 => SessionSetting::Mute(if number > 0 { u64::MAX } else { 0 }),
            _ => SessionSetting::Draft(Blob(if number > 0 { self.text().into() } else { Bytes::new() })),
        }
    }

    /// Coming into groups, and keeping who comes.
    fn of_doors(&mut self, world: &World, me: &UserId) -> Op {
        let (session, user) = (self.group(), self.somebody());
        let code = |random: &mut StdRng| {
            let text = format!("KEY{}", random.random_range(0..4));
            text.parse::<InviteCode>().expect("a code")
        };
        let random = &mut self.random;
        let manage = |action| Op::Manage(session.clone(), action);
        match random.random_range(0..30) {
            0..10 => Op::Join(session, None),
            10..14 => Op::Join(session, Some(code(random))),
            14..19 => manage(GroupAction::Answer { user, accept: random.random_bool(0.6) }),
            19 => manage(GroupAction::Answer { user: me.clone(), accept: false }),
            20..25 => {
                let (hash, uses) = (code(random).hash(), random.random_range(1..4));
                manage(GroupAction::MakeCode { hash, until_ms: self.until_ms, uses })
            }
            25 => {
                let id = world.nth_code(&session, random.random_range(0..8)).unwrap_or(9_999);
                manage(GroupAction::RevokeCode { id })
            }
            26 | 27 => {
                let join = if random.random_bool(0.6) { Join::Request } else { Join::Open };
                manage(GroupAction::SetPolicy(Policy { join, ..Policy::default() }))
            }
            _ => manage(GroupAction::Bar { user, on: random.random_bool(0.4) }),
        }
    }

    fn of_groups(&mut self, world: &World, me: &UserId) -> Op {
        let (session, somebody) = (self.group(), self.somebody());
        // One who blocks this user is not brought in: it leaves by a record that the model does not make.
        let mut bringing = self.some();
        bringing.retain(|user| !world.blocks(user, me));
        let who = |random: &mut StdRng| if random.random_bool(0.7) { Who::All } else { Who::Admins };
        match self.random.random_range(0..40) {
            0..3 => Op::Create(session, bringing),
            3..15 if !bringing.is_empty() => Op::Add(session, bringing),
            3..15 => Op::Members(session),
            15..24 => Op::Remove(session, self.some()),
            24..29 => {
                let role = if self.random.random_bool(0.7) { MemberRole::Admin } else { MemberRole::Member };
                Op::Manage(session, GroupAction::SetRole { user: somebody, role })
            }
            29..31 => Op::Manage(session, GroupAction::HandOver { user: somebody }),
            31..33 => Op::Manage(session, GroupAction::MuteAll { on: self.random.random_bool(0.4) }),
            33..36 => {
                let random = &mut self.random;
                let (write, invite, change) = (who(random), who(random), who(random));
                let history_before_joining = random.random_bool(0.5);
                let join =
                    [Join::Closed, Join::Request, Join::Request, Join::Open][random.random_range(0..4)];
                let policy = Policy { write, invite, change, history_before_joining, join };
                Op::Manage(session, GroupAction::SetPolicy(policy))
            }
            36..39 => {
                let name = Some(Blob::from(self.text().as_str()));
                Op::Manage(session, GroupAction::SetProfile { name, avatar: None })
            }
            // The last one stays.
            _ if session != group(GROUPS[0]) => Op::Manage(session, GroupAction::Dissolve),
            _ => Op::Members(session),
        }
    }
}

/// Does it, and says what was answered. What the cluster cannot answer while a node is away the library asks again.
async fn perform(client: &Client, kept: &Mutex<Kept>, op: &Op) -> Answer {
    match attempt(client, kept, op).await {
        Ok(answer) => answer,
        Err(ClientError::Refused(error)) => Answer::Refused(error.code),
        Err(other) => panic!("{op:?}: {other}"),
    }
}

async fn attempt(client: &Client, kept: &Mutex<Kept>, op: &Op) -> Result<Answer, ClientError> {
    let acked = |ack: Ack| Answer::Acked { seq: ack.seq, count: ack.count };
    Ok(match op {
        Op::Send(session, text) => acked(client.send(session, Outgoing::text(text)).await?),
        Op::Recall(session, seq) => acked(client.recall(session, *seq).await?),
        Op::Edit(session, seq, text) => acked(client.edit(session, *seq, Outgoing::text(text)).await?),
        Op::Create(SessionId::Group(name), users) => acked(client.create_group(name.clone(), users).await?),
        Op::Create(session, _) => panic!("{session} is no group"),
        Op::Add(session, users) => acked(client.add_members(session, users).await?),
        Op::Remove(session, users) => acked(client.remove_members(session, users).await?),
        Op::Join(session, code) => {
            acked(client.join_group(session, code.as_ref(), Blob::from("it is me")).await?)
        }
        Op::Set(session, setting) => Answer::Own(client.set_session(session, setting.clone()).await?.value),
        Op::Asking(session) => {
            let page = client.requests(session, Outside::Asking, None, 200).await?;
            Answer::Members(page.requests.into_iter().map(|line| line.user).collect())
        }
        Op::Since => kept.lock().await.brought_up_to_date(client).await?,
        Op::Manage(session, action) => acked(client.manage(session, action.clone()).await?),
        Op::Read(session, seq) => {
            let mark = client.read(session, *seq).await?;
            Answer::Mark { seq: mark.seq, count: mark.count }
        }
        Op::ReadAll => Answer::Own(client.read_all().await?),
        Op::Clear(session, seq) => Answer::Own(client.clear_session(session, *seq).await?.value),
        Op::Delete(session, from_seq, to_seq) => {
            let (session, from_seq, to_seq) = (session.clone(), *from_seq, *to_seq);
            let action = UserAction::DeleteMessages { session, from_seq, to_seq };
            Answer::Own(client.manage_self(action).await?.value)
        }
        Op::AskFriend(other) => Answer::Own(client.request_friend(other.clone(), "").await? as u64),
        Op::Accept(other) => Answer::Own(client.accept_friend(other.clone()).await? as u64),
        Op::Decline(other) => Answer::Own(client.decline_friend(other.clone()).await? as u64),
        Op::Unfriend(other) => Answer::Own(client.remove_friend(other.clone()).await? as u64),
        Op::Block(other, true) => Answer::Own(client.block(other.clone()).await? as u64),
        Op::Block(other, false) => Answer::Own(client.unblock(other.clone()).await? as u64),
        Op::Pull { session, from, backward, max } => {
            let way = if *backward { Direction::Backward } else { Direction::Forward };
            let page = client.pull(session, *from, way, *max, Consistency::Linearizable).await?;
            let records = page.records.iter().map(shown).collect();
            Answer::Page { first: page.first_seq, last: page.last_seq, records }
        }
        Op::List => loop {
            let list = client.sync().await?;
            if list.unresolved.is_empty() {
                break listed(list.sessions);
            }
        },
        Op::Members(session) => Answer::Members(client.members(session, None, 100).await?.users),
        Op::Relations => related(client.relations(RelationFilter::All, None, 100).await?),
        Op::Receipts(session, seq, which) => loop {
            let page = client.receipts(session, *seq, *which, None, 100).await?;
            if let Some(counts) = page.counts {
                let lines = page.users.into_iter().map(|line| (line.user, line.read_seq));
                break Answer::Receipts(lines.collect(), (counts.read, counts.unread, counts.hidden));
            }
        },
    })
}

/// The list as a device keeps it, put together since marks.
#[derive(Default)]
struct Kept {
    lines: BTreeMap<SessionId, Summary>,
    mark: Mark,
}

impl Kept {
    /// What has changed is taken in; what could not be asked while somebody was elected is asked again.
    async fn brought_up_to_date(&mut self, client: &Client) -> Result<Answer, ClientError> {
        loop {
            let changes = client.sync_since(&self.mark).await?;
            if changes.full {
                self.lines.clear();
            }
            changes.left.iter().for_each(|session| drop(self.lines.remove(session)));
            self.lines.extend(changes.sessions.into_iter().map(|line| (line.session.clone(), line)));
            self.mark = changes.mark;
            if changes.unresolved.is_empty() {
                return Ok(listed(self.lines.values().cloned().collect()));
            }
        }
    }
}

fn shown(record: &Record) -> Shown {
    let mark = record.extensions.iter().find(|extension| extension.tag == Rewritten::TAG);
    let mark = mark.map(|mark| decode::<Rewritten>(&mark.data.0).expect("a mark"));
    Shown {
        seq: record.seq,
        count: record.count,
        sender: record.sender.clone(),
        kind: record.kind,
        content: record.content.0.clone(),
        changed: mark.map(|mark| (mark.by, mark.seq)),
    }
}

fn listed(sessions: Vec<Summary>) -> Answer {
    let lines = sessions.into_iter().map(|line| {
        let shown = Line {
            set: Set::of(&line.settings),
            members: line.members,
            first: line.first_seq,
            last: line.last_seq,
            count: line.count,
            unread: line.unread,
            joined: line.joined_seq,
            read: line.read_seq,
            cleared: line.settings.cleared_seq,
            deleted: line.settings.deleted,
            preview: line.last.map(|last| (last.seq, last.kind)),
        };
        (line.session, shown)
    });
    Answer::List(lines.collect())
}

fn related(page: RelationPage) -> Answer {
    let lines = page.relations.into_iter().map(|line| (line.user, line.state, line.blocked));
    Answer::Relations(lines.collect())
}

/// The cluster and the reference side by side.
struct Run {
    seed: u64,
    cluster: Cluster,
    world: World,
    wishes: Wishes,
    devices: Vec<(UserId, &'static str, Client, Arc<Mutex<Kept>>)>,
    done: usize,
    refused: usize,
    told: VecDeque<String>,
    faults: Vec<String>,
}

impl Run {
    async fn begin(seed: u64) -> Self {
        let plan = Plan::new(3, 4).with("limits", "ring_records = 16").with("storage", "checkpoint_ms = 300");
        let cluster = Cluster::up(plan).await;
        let mut devices = Vec::new();
        for (at, name) in NAMES.into_iter().enumerate() {
            for (nth, device) in ["phone", "desk"].into_iter().enumerate() {
                let mut nodes = [1, 2, 3];
                nodes.rotate_left((at + nth) % 3);
                let (client, inbox) = app(&cluster, &nodes, name, device).await;
                // Nobody looks at what is pushed here; but it must be taken.
                tokio::spawn(inbox.drain());
                devices.push((user(name), device, client, Arc::default()));
            }
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("later than 1970");
        let until_ms = now.as_millis() as u64 + 86_400_000;
        let wishes = Wishes { random: StdRng::seed_from_u64(seed), sessions: sessions(), said: 0, until_ms };
        let (world, told, faults) = (World::default(), VecDeque::new(), Vec::new());
        Self { seed, cluster, world, wishes, devices, done: 0, refused: 0, told, faults }
    }

    /// One act; a node is killed while it is under way.
    async fn step(&mut self, kill: Option<u16>) {
        let at = self.wishes.random.random_range(0..self.devices.len());
        let (me, device, client, kept) = self.devices[at].clone();
        let op = match GROUPS.get(self.done) {
            // Groups to begin with; the last one is made by whoever comes to it.
            Some(name) if self.done < GROUPS.len() - 1 => {
                Op::Create(group(name), vec![user("ann"), user("bob")])
            }
            _ => self.wishes.next(&self.world, &me),
        };
        let asked = tokio::spawn({
            let op = op.clone();
            async move { perform(&client, &kept, &op).await }
        });
        if let Some(node) = kill {
            tokio::task::yield_now().await;
            self.cluster.kill(node);
            println!("step {}: node {node} is killed during {op:?}", self.done);
        }
        let answer = asked.await.unwrap_or_else(|why| panic!("seed {}: {why}", self.seed));
        let unborn = op.session().is_some_and(|session| !self.world.exists(session));
        let mut expected = self.world.step(&me, &op);
        if unborn && is_none(&expected) && is_none(&answer) {
            // Of what has never been it does not matter which is said to be missing: session, member or message.
            expected = answer.clone();
        }
        self.told.push_back(format!("{}: {me}/{device} {op:?} -> {answer:?}", self.done));
        if self.told.len() > TOLD {
            self.told.pop_front();
        }
        self.hold(&format!("step {}, {me}/{device}: {op:?}", self.done), &answer, &expected);
        self.refused += usize::from(matches!(answer, Answer::Refused(_)));
        self.done += 1;
    }

    /// Notes a wrong answer, and goes on, for there may be others of another kind; not for long.
    fn hold(&mut self, what: &str, answer: &Answer, expected: &Answer) {
        if answer == expected {
            return;
        }
        let mut text = format!("{what}\n the cluster: {answer:?}\n the model:   {expected:?}");
        if self.faults.is_empty() {
            let told = self.told.iter().map(String::as_str).collect::<Vec<_>>().join("\n  ");
            text += &format!("\n  {told}");
        }
        self.faults.push(text);
        if self.faults.len() >= FAULTS {
            self.end();
        }
    }

    /// Fails if anything was wrong.
    fn end(&self) {
        let faults = self.faults.join("\n");
        assert!(self.faults.is_empty(), "ROOKERY_MODEL_SEED={}\n{faults}", self.seed);
    }

    /// Every replica holds what the reference holds, and every user is shown it at every node.
    async fn compare(&mut self) {
        self.cluster.serving().await;
        self.cluster.level().await;
        for node in self.cluster.ids() {
            let mut judge = Wire::service(&self.cluster, node).await;
            for session in sessions() {
                let records = match judge.pull(&session, Consistency::Replica).await {
                    Ok(records) => records,
                    Err(error) if error.code == ErrorCode::NoSuchSession => Vec::new(),
                    Err(error) => panic!("{session} on node {node}: {error}"),
                };
                let held: Vec<Shown> = records.iter().map(shown).collect();
                let known = self.world.records(&session);
                let differ = held.iter().zip(known).find(|(one, other)| one != other);
                let seed = self.seed;
                assert!(differ.is_none(), "{session} on node {node}: {differ:?}; ROOKERY_MODEL_SEED={seed}");
                assert_eq!(held.len(), known.len(), "{session} on node {node}; ROOKERY_MODEL_SEED={seed}");
            }
            for name in NAMES {
                self.compare_lists(node, name).await;
            }
        }
    }

    async fn compare_lists(&mut self, node: u16, name: &str) {
        let me = user(name);
        let mut wire = Wire::of(&self.cluster, node, name, &format!("end-{node}")).await;
        let list = listed(wire.sync().await.sessions);
        let expected = self.world.step(&me, &Op::List);
        self.hold(&format!("the list of {name} at node {node}"), &list, &expected);
        let ask = ListRelations { on_behalf_of: None, which: RelationFilter::All, after: None, limit: 100 };
        let page = wire.ask(Kind::ListRelations, &ask).await.expect("relations");
        let expected = self.world.step(&me, &Op::Relations);
        self.hold(&format!("the relations of {name} at node {node}"), &related(page), &expected);
    }
}

#[test]
fn random_acts_through_all_nodes_go_as_the_model_says_though_nodes_die() {
    let seed = from_env("ROOKERY_MODEL_SEED").unwrap_or_else(rand::random);
    let steps = from_env("ROOKERY_MODEL_STEPS").map_or(STEPS, |steps| steps as usize);
    println!("ROOKERY_MODEL_SEED={seed} ROOKERY_MODEL_STEPS={steps}");
    play(async {
        let mut run = Run::begin(seed).await;
        let begun = Instant::now();
        let (mut kills, mut away) = (0, None);
        while run.done < steps && begun.elapsed() < TIME {
            let share = begun.elapsed().as_secs_f64() / TIME.as_secs_f64();
            let share = share.max(run.done as f64 / steps as f64);
            // A third and two thirds through a node dies, and is back a while later.
            let due = away.is_none() && kills < 2 && share > f64::from(kills + 1) / 3.0;
            let mut victim = None;
            if due {
                run.cluster.serving().await;
                victim = Some(run.cluster.leader_of(&direct("ann", "bob")).await);
                (kills, away) = (kills + 1, victim.map(|node| (node, run.done + 40)));
            }
            run.step(victim).await;
            if let Some((node, _)) = away.filter(|(_, back)| run.done >= *back) {
                run.cluster.start(node);
                away = None;
            }
        }
        if let Some((node, _)) = away {
            run.cluster.start(node);
        }
        run.end();
        run.compare().await;
        run.end();
        println!("{} acts, {} of them refused, {kills} nodes killed", run.done, run.refused);
        assert!(run.done >= LEAST.min(steps), "{} acts in {TIME:?}", run.done);
        assert!(kills == 2 || steps < 100, "{kills} nodes were killed");
        for (_, _, client, _) in run.devices {
            client.close().await;
        }
    });
}
