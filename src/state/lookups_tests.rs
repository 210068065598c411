//! What is read before a batch is enough for every command in it: however a log is cut into batches, and wherever checkpoints
//! and restarts left memory with little, it ends as it does command by command with everything in memory.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rookery_wire::codec::Blob;
use rookery_wire::{ErrorCode, GroupAction, Join, MemberRole, Policy, RequestKey, UserId};

use super::command::{Act, Actor, ChangeKind};
use super::key::letter;
use super::records;
use super::tests::{Disk, LIMITS, actor, at, group, last_number, look_up, text, user};
use super::trim_tests::{edit, lasting, recall};
use super::{Answer, At, Command, Outcome, Session};

/// Applies a batch as the actor shell does; gives what each is answered, of those that are not in already.
fn batch(session: &mut Session, disk: &Disk, commands: &[(At, Command)]) -> Vec<Option<Fate>> {
    let all: Vec<Command> = commands.iter().map(|(_, command)| command.clone()).collect();
    look_up(session, disk, &all);
    let start = session.index();
    let mut answers = Vec::new();
    for (at, command) in commands {
        let new = at.index > start;
        answers.push(new.then(|| Fate::of(one(session, at, command))));
    }
    let last = commands.last().map_or(0, |(at, _)| at.index);
    session.reflect(last);
    session.forget_recalled();
    answers
}

fn one(session: &mut Session, at: &At, command: &Command) -> Outcome {
    match command {
        Command::Act { actor, client_seq, act, .. } => session.apply(at, &LIMITS, actor, *client_seq, act),
        Command::KeyedAct { actor, key, act, .. } => session.apply_keyed(at, &LIMITS, actor, key, act),
        Command::Expire { seqs, .. } => session.expire(at, seqs),
        Command::Linked { done, .. } => session.linked(at, done),
        other => panic!("not in this test: {other:?}"),
    }
}

/// An answer without the words, of which a repeat has others.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Stored(u64),
    Refused(ErrorCode, u64),
    Nothing,
}

impl Fate {
    fn of(outcome: Outcome) -> Self {
        match outcome.answer {
            Some(Answer::Ack(ack)) => Fate::Stored(ack.seq),
            Some(Answer::Refused(refusal)) => Fate::Refused(refusal.code, refusal.detail),
            _ => Fate::Nothing,
        }
    }
}

fn act(actor: Actor, client_seq: u64, act: Act) -> Command {
    Command::Act { actor, session: group(), client_seq, act }
}

fn change(kind: ChangeKind, users: &[&str]) -> Act {
    Act::Change { kind, users: users.iter().map(|name| user(name)).collect(), most: 1000, unknown: None }
}

fn join() -> Act {
    Act::Join { code: None, text: Blob::default(), most: 1000, again_ms: 0 }
}

fn manage(action: GroupAction) -> Act {
    Act::Manage { action }
}

fn comes_in(join: Join) -> Act {
    manage(GroupAction::SetPolicy(Policy { join, ..Policy::default() }))
}

/// Writes a log, playing it along command by command with everything in memory.
struct Log {
    rng: StdRng,
    whole: Session,
    commands: Vec<(At, Command)>,
    answers: Vec<Option<Fate>>,
    /// Users that there were so far.
    known: u64,
}

impl Log {
    fn begin(seed: u64) -> Self {
        let (rng, whole) = (StdRng::seed_from_u64(seed), Session::new(group()));
        let mut log = Self { rng, whole, commands: Vec::new(), answers: Vec::new(), known: 0 };
        let create = act(actor("ann"), 1, change(ChangeKind::Create, &["bob"]));
        log.push(create.clone());
        log.push(Command::Linked { session: group(), done: vec![(user("ann"), 1, true)] });
        log.push(create);
        log
    }

    fn push(&mut self, command: Command) {
        let command = (at(self.commands.len() as u64 + 1), command);
        let answers = batch(&mut self.whole, &Disk::default(), std::slice::from_ref(&command));
        self.answers.extend(answers);
        self.commands.push(command);
    }

    fn says(&mut self, name: &str, what: Act) {
        let next = last_number(&self.whole, &Disk::default(), &actor(name)) + 1;
        self.push(act(actor(name), next, what));
    }

    fn newcomer(&mut self) -> String {
        self.known += 1;
        format!("new{}", self.known)
    }

    /// Any message, most often an old one.
    fn seq(&mut self) -> u64 {
        self.rng.random_range(1..=self.whole.last_seq())
    }

    fn rewrites(&mut self, name: &str) {
        let seq = self.seq();
        let what = if self.rng.random_bool(0.5) { recall(seq) } else { edit(seq, "otherwise") };
        self.says(name, what);
    }

    /// One comes in and rewrites at once what others have said: most may not, and are told so whatever memory holds.
    fn comes_and_rewrites(&mut self) {
        let name = self.newcomer();
        match self.rng.random_range(0..4) {
            0 => {
                self.says("ann", change(ChangeKind::Add, &[&name]));
                let (user, role) = (user(&name), MemberRole::Admin);
                self.says("ann", manage(GroupAction::SetRole { user, role }));
            }
            1 => self.says("ann", change(ChangeKind::Add, &[&name])),
            2 => {
                self.says("ann", comes_in(Join::Open));
                self.says(&name, join());
            }
            _ => {
                self.says("ann", comes_in(Join::Request));
                self.says(&name, join());
                self.says("ann", Act::Answer { user: user(&name), accept: true, most: 1000 });
                self.says("ann", manage(GroupAction::HandOver { user: user(&name) }));
                self.rewrites(&name);
                self.says(&name, manage(GroupAction::HandOver { user: user("ann") }));
            }
        }
        self.rewrites(&name);
        self.rewrites(&name);
    }

    fn step(&mut self) {
        let number = self.commands.len();
        match self.rng.random_range(0..12) {
            0 | 1 => self.comes_and_rewrites(),
            2 => self.rewrites("bob"),
            3 => {
                // It never was a member, and is none.
                let stranger = self.newcomer();
                self.rewrites(&stranger);
            }
            4 => {
                let seq = self.seq();
                let key = RequestKey::new(&format!("key {number}")).expect("a key");
                let actor = Actor::keyed(user("shop"), None::<UserId>).expect("an actor");
                self.push(Command::KeyedAct { actor, session: group(), key, act: recall(seq) });
            }
            5 => {
                let seqs = vec![self.seq(), self.seq()];
                self.push(Command::Expire { session: group(), seqs });
            }
            6 => {
                // Late retries, of others' numbers among them.
                let old = self.rng.random_range(0..number);
                let again = self.commands[old].1.clone();
                if matches!(again, Command::Act { .. }) {
                    self.push(again);
                }
            }
            7 => self.says("bob", lasting("for a while", 10)),
            _ => self.says(["ann", "bob"][number % 2], text(&format!("message {number}"))),
        }
    }
}

/// What must be alike in the end: all rows but those whose cuts depend on checkpoints, and the records one by one.
fn essence(mut session: Session, mut disk: Disk) -> (Disk, Vec<Bytes>) {
    disk.write(session.collect());
    let records = records::read(&disk, &group(), 1, session.last_seq() as usize + 1).expect("rows");
    assert_eq!(records.len() as u64, session.last_seq(), "every record can be read");
    (disk.all_but(letter::NUMBERS).all_but(letter::RECORD), records)
}

#[test]
fn however_the_log_is_cut_into_batches_it_ends_as_command_by_command() {
    for seed in 0..60 {
        let mut log = Log::begin(seed);
        while log.commands.len() < 250 {
            log.step();
        }
        let Log { mut rng, whole, commands, answers, .. } = log;
        let mut disk = Disk::default();
        let mut session = Session::new(group());
        let mut next = 0;
        while next < commands.len() {
            let end = commands.len().min(next + rng.random_range(1..=12));
            let found = batch(&mut session, &disk, &commands[next..end]);
            for (answer, place) in found.into_iter().zip(next..).filter(|(answer, _)| answer.is_some()) {
                let (at, command) = &commands[place];
                assert_eq!(answer, answers[place], "seed {seed}, {at:?} in {next}..{end}: {command:?}");
            }
            next = end;
            if rng.random_bool(0.3) {
                disk.write(session.collect());
                session.written(&LIMITS);
            }
            if rng.random_bool(0.15) {
                session = Session::load(&disk, &group()).expect("rows");
                let covered = session.index() as usize;
                next = rng.random_range(covered.saturating_sub(10)..=covered.min(next));
            }
        }
        assert_eq!(session.last_seq(), whole.last_seq(), "seed {seed}");
        let (found, expected) = (essence(session, disk), essence(whole, Disk::default()));
        assert_eq!(found.1, expected.1, "records differ; seed {seed}");
        assert_eq!(found.0, expected.0, "rows differ; seed {seed}");
    }
}
