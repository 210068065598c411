//! Many groups whose members are all online, each with one device or several: how many messages a second are sent and pushed,
//! how soon a device has one, and whether every device had every one.
//!
//! Every message begins with the time at which it was sent, or was due, and all devices are of this process, so one clock
//! times them all. A device is due every message acknowledged in its user's groups but those it sent itself, for which the
//! ACK stands; what is missing in the end without LAGGED, and what came twice, fails the run.

mod figures;

use std::collections::{BTreeSet, HashMap};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use hdrhistogram::Histogram;
use rookery_wire::reply::SyncPage;
use rookery_wire::request::{Consistency, Role, Sync};
use rookery_wire::{Blob, GroupId, Kind, SessionId, UserId};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use self::figures::{Cpu, Received, SpreadReport, times};
use super::args::{BenchArgs, SpreadArgs};
use super::connect::{ask, create_group, register_device};
use super::content::Contents;
use super::dealt::Dealt;
use super::hear::{Ear, Hall, group_name};
use super::idle::in_parts;
use super::pace::Schedule;
use super::report::print;
use super::send::{Sender, Sent, Span};
use super::usage::seconds_of;
use super::{Ground, many_files, readback};
use crate::check::link::{Link, body};
use crate::http::fetch;

/// Connections that make groups at the same time.
const MAKERS: usize = 16;
/// Sessions in a page of the list.
const PAGE: u32 = 200;
/// Lists that name a session as unresolved are asked for again, so often and after this pause.
const RESOLVED: (u32, Duration) = (20, Duration::from_millis(250));
/// What is due when the last message was acknowledged may take so long, and between two pushes no longer than this.
const SETTLED: Duration = Duration::from_secs(60);
const STILL: Duration = Duration::from_secs(5);
/// Deadline of one question about a node's status.
const STATUS: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(10);
/// A rate counts as kept when so much of it was acknowledged within the span.
const KEPT: f64 = 0.99;

/// Runs `rookery bench spread`.
pub(super) async fn run(args: &BenchArgs, spread: &SpreadArgs) -> anyhow::Result<ExitCode> {
    // Before the nodes start, which have the same limit from us.
    many_files(u64::from(spread.online) * u64::from(spread.devices))?;
    let ground = Ground::prepare(args).await?;
    let plan = Plan::draw(&ground, spread)?;
    plan.make_groups(&ground).await?;
    let hall = Arc::new(Hall::new(plan.epoch)?);
    let seats = plan.connect(&ground, &hall).await?;
    let report = plan.measure(&ground, &hall, seats).await?;
    if spread.markdown {
        print(false, &report, &report.table())?;
    } else {
        print(args.json, &report, &report.line())?;
    }
    report.judge()?;
    Ok(ExitCode::SUCCESS)
}

struct Plan {
    args: SpreadArgs,
    tag: String,
    dealt: Dealt,
    speakers: Vec<u32>,
    /// Times in messages are counted from here.
    epoch: Instant,
}

/// A connected device.
struct Seat {
    user: u32,
    ear: Arc<Ear>,
    line: Line,
}

enum Line {
    /// It is to send.
    Sender(Link),
    /// It listens, until this is dropped.
    Listener(#[expect(dead_code, reason = "held for its drop")] AbortOnDropHandle<()>),
}

/// What the senders did and what was heard, before it is counted up.
struct Ran {
    sent: Vec<(u32, Sent)>,
    ears: Vec<(u32, Option<usize>, Arc<Ear>)>,
    settled: Duration,
    taken: Option<Taken>,
}

impl Plan {
    fn draw(ground: &Ground, args: &SpreadArgs) -> anyhow::Result<Self> {
        let dealt = Dealt::draw(ground.seed, args.online, args.groups, args.members)?;
        let speakers = dealt.speakers(args.senders.unwrap_or(args.groups));
        let tag = format!("f{:x}", rand::random::<u32>());
        Ok(Self { args: args.clone(), tag, dealt, speakers, epoch: Instant::now() })
    }

    fn user(&self, number: u32) -> anyhow::Result<UserId> {
        Ok(UserId::new(&format!("{}-{number}", self.tag))?)
    }

    fn session(&self, group: u32) -> anyhow::Result<SessionId> {
        Ok(SessionId::group(GroupId::new(&group_name(&self.tag, group))?))
    }

    async fn backend(&self, ground: &Ground, number: usize) -> anyhow::Result<Link> {
        let (_, addr) = &ground.nodes[number % ground.nodes.len()];
        let (user, device) = (UserId::new(&format!("{}-backend", self.tag))?, format!("maker-{number}"));
        Ok(register_device(addr, &user, &device, Role::Service, &ground.token).await?.0)
    }

    /// The backend makes all groups, over a few connections.
    async fn make_groups(&self, ground: &Ground) -> anyhow::Result<()> {
        let making = ground.progress.counted("making groups", u64::from(self.args.groups));
        let mut makers = JoinSet::new();
        for number in 0..MAKERS.min(self.dealt.members.len()) {
            let mut link = self.backend(ground, number).await?;
            let mut groups = Vec::new();
            for (group, members) in self.dealt.members.iter().enumerate().skip(number).step_by(MAKERS) {
                let users = members.iter().map(|user| self.user(*user)).collect::<Result<Vec<_>, _>>()?;
                groups.push((self.session(group as u32)?, users));
            }
            let bar = making.counter();
            makers.spawn(async move {
                for (session, users) in groups {
                    create_group(&mut link, &session, &users).await?;
                    bar.inc(1);
                }
                anyhow::Ok(())
            });
        }
        while let Some(made) = makers.join_next().await {
            made??;
        }
        Ok(())
    }

    /// All devices, on the nodes in turn; those who send come last, for until then they hear nothing.
    async fn connect(&self, ground: &Ground, hall: &Arc<Hall>) -> anyhow::Result<Vec<Seat>> {
        let speak: BTreeSet<u32> = self.speakers.iter().copied().collect();
        let everybody =
            (0..self.args.devices).flat_map(|device| (0..self.args.online).map(move |user| (device, user)));
        let (senders, listeners): (Vec<_>, Vec<_>) =
            everybody.enumerate().partition(|(_, (device, user))| *device == 0 && speak.contains(user));
        let bar = ground.progress.counted("connecting", (senders.len() + listeners.len()) as u64);
        let all =
            listeners.into_iter().map(|one| (one, false)).chain(senders.into_iter().map(|one| (one, true)));
        in_parts(bar, all.collect(), |((number, (device, user)), sends)| {
            let (_, addr) = &ground.nodes[number % ground.nodes.len()];
            let (addr, token, name) = (addr.clone(), ground.token.clone(), self.user(user));
            let groups = self.dealt.groups.get(user as usize).map_or(0, Vec::len);
            let ear = self.dealt.groups.get(user as usize).map_or(&[][..], Vec::as_slice);
            let ear = Arc::new(Ear::new(Arc::clone(hall), number, ear));
            async move {
                let (mut link, _) =
                    register_device(&addr, &name?, &format!("device-{device}"), Role::User, &token).await?;
                attach(&mut link, groups).await?;
                let line = match sends {
                    true => Line::Sender(link),
                    false => {
                        Line::Listener(AbortOnDropHandle::new(tokio::spawn(Arc::clone(&ear).listen(link))))
                    }
                };
                Ok(Seat { user, ear, line })
            }
        })
        .await
    }

    async fn measure(
        &self,
        ground: &Ground,
        hall: &Arc<Hall>,
        seats: Vec<Seat>,
    ) -> anyhow::Result<SpreadReport> {
        let connections = seats.len();
        let ran = self.send(ground, hall, seats).await?;
        let all = self.hold_against(&ran);
        let read_back = self.read_back(ground, &ran.sent).await?;
        let mut send: Histogram<u64> = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        for (_, sent) in &ran.sent {
            send.add(&sent.latency)?;
        }
        let sum = |of: fn(&Sent) -> u64| ran.sent.iter().map(|(_, sent)| of(sent)).sum::<u64>();
        let (args, seconds, delivered) = (&self.args, self.args.seconds, hall.in_span());
        let (acked, unsent) = (sum(|sent| sent.acked_in_span), sum(|sent| sent.unsent));
        let sends_per_second = acked as f64 / seconds;
        Ok(SpreadReport {
            online: args.online,
            devices: args.devices,
            connections,
            groups: args.groups,
            members: args.members,
            senders: self.speakers.len(),
            window: args.window,
            rate: args.rate,
            kept_rate: args.rate.map(|rate| unsent == 0 && sends_per_second >= rate * KEPT),
            unsent,
            size: args.size,
            warmup: args.warmup,
            seconds,
            acked,
            sends_per_second,
            send: times(&send),
            delivered,
            deliveries_per_second: delivered as f64 / seconds,
            delivery: times(&hall.latency()?),
            settled_ms: ran.settled.as_secs_f64() * 1000.0,
            all,
            busy: sum(|sent| sent.busy),
            acked_in_all: sum(|sent| sent.acked),
            read_back,
            bytes_per_delivery: hall.bytes_in_span() as f64 / delivered.max(1) as f64,
            deliveries_per_write: ran.taken.map(|taken| taken.pushes as f64 / taken.writes.max(1) as f64),
            cpu_seconds: ran.taken.map(|Taken { nodes, driver, .. }| Cpu {
                nodes,
                driver,
                nodes_us_per_delivery: nodes * 1e6 / delivered.max(1) as f64,
            }),
            seed: ground.seed,
        })
    }

    /// Everybody who speaks does, and then all wait for what is still due.
    async fn send(&self, ground: &Ground, hall: &Arc<Hall>, seats: Vec<Seat>) -> anyhow::Result<Ran> {
        let (warmup, length) =
            (Duration::from_secs_f64(self.args.warmup), Duration::from_secs_f64(self.args.seconds));
        let begin = Instant::now();
        let from = begin + warmup;
        let span = Span { from, to: from + length, most: u64::MAX };
        hall.measure(span);
        let clock = ground
            .own
            .as_ref()
            .map(|own| AbortOnDropHandle::new(tokio::spawn(taken_within(own.processes(), span))));
        let sending = ground.progress.timed("sending", warmup + length);
        let (mut senders, mut listeners, mut ears) = (JoinSet::new(), Vec::new(), Vec::new());
        let count = self.speakers.len() as u32;
        for Seat { user, ear, line } in seats {
            let link = match line {
                Line::Sender(link) => link,
                line => {
                    listeners.push(line);
                    ears.push((user, None, ear));
                    continue;
                }
            };
            let at = senders.len();
            let groups = self.dealt.groups.get(user as usize).context("a user who was dealt to")?;
            let sessions = groups.iter().map(|group| self.session(*group)).collect::<Result<Vec<_>, _>>()?;
            let contents = Contents::new(ground.seed, u64::from(user), self.args.size as usize);
            let sender = Sender::new(link, sessions, self.args.window as usize, contents, 1)?;
            let sender = sender.hearing(Arc::clone(&ear), self.epoch);
            let sender = match self.args.rate {
                Some(rate) => sender.paced(Schedule::new(begin, rate, count, at as u32))?,
                None => sender,
            };
            ears.push((user, Some(at), Arc::clone(&ear)));
            senders.spawn(async move {
                let (sent, link) = sender.run_and_stay(span).await?;
                let listening = AbortOnDropHandle::new(tokio::spawn(ear.listen(link)));
                anyhow::Ok((at, user, sent, listening))
            });
        }
        let mut sent = Vec::new();
        while let Some(done) = senders.join_next().await {
            let (at, user, of_one, listening) = done??;
            listeners.push(Line::Listener(listening));
            sent.push((at, user, of_one));
        }
        drop(sending);
        sent.sort_by_key(|(at, ..)| *at);
        let sent: Vec<_> = sent.into_iter().map(|(_, user, sent)| (user, sent)).collect();
        let told = Told::of(&sent);
        let due =
            ears.iter().map(|(user, at, _)| self.due(&told, *user, *at).map(|(_, due)| due).sum::<u64>());
        let settled = settle(ground, hall, due.sum()).await;
        let taken = match clock {
            Some(clock) => Some(clock.await??),
            None => None,
        };
        drop(listeners);
        Ok(Ran { sent, ears, settled, taken })
    }

    /// What a device is due of each of its user's groups; the sender at `at` not what it sent itself.
    fn due<'a>(
        &'a self,
        told: &'a Told,
        user: u32,
        at: Option<usize>,
    ) -> impl Iterator<Item = (u32, u64)> + 'a {
        self.dealt.groups.get(user as usize).into_iter().flatten().map(move |group| {
            let all = told.by_group.get(group).copied().unwrap_or(0);
            let own = at.and_then(|at| told.by_sender.get(&(at, *group))).copied().unwrap_or(0);
            (*group, all.saturating_sub(own))
        })
    }

    fn hold_against(&self, ran: &Ran) -> Received {
        let (told, mut all) = (Told::of(&ran.sent), Received::default());
        for (user, at, ear) in &ran.ears {
            if let Some(fault) = ear.fault() {
                all.ended += 1;
                all.first_end.get_or_insert_with(|| fault.to_owned());
            }
            for (heard, (_, due)) in ear.heard().iter().zip(self.due(&told, *user, *at)) {
                all.expected += due;
                all.received += heard.count;
                all.doubled += heard.doubled;
                all.lagged += u64::from(heard.lagged);
                all.surplus += heard.count.saturating_sub(due);
                let lacks = due.saturating_sub(heard.count);
                *if heard.lagged { &mut all.skipped } else { &mut all.missing } += lacks;
            }
        }
        all
    }

    /// Counts every group's messages, each node's share beside those of the others.
    async fn read_back(&self, ground: &Ground, sent: &[(u32, Sent)]) -> anyhow::Result<u64> {
        let told = Told::of(sent);
        let reading = ground.progress.counted("reading back groups", u64::from(self.args.groups));
        let (mut readers, nodes) = (JoinSet::new(), ground.nodes.len());
        for turn in 0..nodes {
            let mut link = self.backend(ground, turn).await?;
            let groups = (0..self.args.groups).skip(turn).step_by(nodes);
            let groups = groups
                .map(|group| Ok((self.session(group)?, told.by_group.get(&group).copied().unwrap_or(0))));
            let groups: Vec<(SessionId, u64)> = groups.collect::<anyhow::Result<_>>()?;
            let bar = reading.counter();
            readers.spawn(async move {
                let mut found = 0;
                for (session, acked) in groups {
                    let held = readback::count(&mut link, &session, Consistency::Linearizable).await?;
                    let count = held.countable;
                    ensure!(
                        count >= acked,
                        "{session}: {acked} messages were acknowledged, {count} are there"
                    );
                    found += count;
                    bar.inc(1);
                }
                anyhow::Ok(found)
            });
        }
        let mut found = 0;
        while let Some(read) = readers.join_next().await {
            found += read??;
        }
        Ok(found)
    }
}

/// Messages acknowledged: of each group, and by each sender in each.
struct Told {
    by_group: HashMap<u32, u64>,
    by_sender: HashMap<(usize, u32), u64>,
}

impl Told {
    fn of(sent: &[(u32, Sent)]) -> Self {
        let mut told = Self { by_group: HashMap::new(), by_sender: HashMap::new() };
        for (at, (_, sent)) in sent.iter().enumerate() {
            for spoken in &sent.spoken {
                let Some(group) = super::hear::group_of(spoken.session.to_string().as_bytes()) else {
                    continue;
                };
                *told.by_group.entry(group).or_default() += spoken.acked;
                *told.by_sender.entry((at, group)).or_default() += spoken.acked;
            }
        }
        told
    }
}

/// Subscribes to everything the user is in, which must be so many groups, each of them resolved.
async fn attach(link: &mut Link, groups: usize) -> anyhow::Result<()> {
    for _ in 0..RESOLVED.0 {
        let (mut after, mut named, mut unresolved) = (Blob::default(), 0, 0);
        loop {
            let sync = Sync { after, limit: PAGE, since: Blob::default() };
            let page: SyncPage = body(&ask(link, Kind::Sync, &sync).await?)?;
            named += page.sessions.len();
            unresolved += page.unresolved.len();
            if page.next.is_empty() {
                break;
            }
            after = page.next;
        }
        if unresolved == 0 {
            ensure!(named == groups, "a list of {named} sessions, not {groups}");
            return Ok(());
        }
        sleep(RESOLVED.1).await;
    }
    bail!("a list that names sessions as unresolved, {} times", RESOLVED.0)
}

/// Waits until so many pushes have come, or none comes any more; how long that was.
async fn settle(ground: &Ground, hall: &Hall, due: u64) -> Duration {
    let _waiting = ground.progress.open("waiting for the last pushes");
    let begin = Instant::now();
    let (mut had, mut moved) = (hall.received(), begin);
    while had < due && begin.elapsed() < SETTLED && moved.elapsed() < STILL {
        sleep(LOOK).await;
        let has = hall.received();
        if has != had {
            (had, moved) = (has, Instant::now());
        }
    }
    moved.duration_since(begin)
}

/// What was taken within the span: CPU seconds, and the nodes' own counts.
#[derive(Clone, Copy, Default)]
struct Taken {
    nodes: f64,
    driver: f64,
    pushes: u64,
    /// To connections, answers among them.
    writes: u64,
}

/// A node's process and where it tells of itself.
type Processes = Vec<(u16, Option<u32>, String)>;

/// What these processes, and this one, take within the span. The counts of one node are of one instant, which may be a little
/// beside the span's ends: they are for what stands to each other.
async fn taken_within(processes: Processes, span: Span) -> anyhow::Result<Taken> {
    sleep_until(span.from).await;
    let before = taken(&processes).await?;
    sleep_until(span.to).await;
    let after = taken(&processes).await?;
    Ok(Taken {
        nodes: after.nodes - before.nodes,
        driver: after.driver - before.driver,
        pushes: after.pushes - before.pushes,
        writes: after.writes - before.writes,
    })
}

/// Since each process began.
async fn taken(processes: &Processes) -> anyhow::Result<Taken> {
    let mut sum = Taken { driver: seconds_of(std::process::id())?, ..Taken::default() };
    for (_, pid, _) in processes {
        sum.nodes += seconds_of(pid.context("a running node")?)?;
    }
    for (_, _, http) in processes {
        let of = fetch::status(http, STATUS).await?.delivery;
        sum.pushes += of.pushes;
        sum.writes += of.writes;
    }
    Ok(sum)
}
