//! The message that is measured: 256 bytes that do not compress, to a group, from one of its members.

use bytes::Bytes;
use rookery::state::{Act, Actor, Answer, ChangeKind, Command, Entry, Session, SessionLimits};
use rookery_wire::request::Send;
use rookery_wire::{Blob, DeviceId, GroupId, SessionId, UserId};

use crate::content::Contents;

/// Messages that go together, as those of one lane do under load.
pub const BATCH: usize = 64;
/// Bytes of content.
const SIZE: usize = 256;
/// What a session keeps in memory here; more than any round leaves there.
pub(crate) const LIMITS: SessionLimits = SessionLimits { ring: 256, ring_bytes: 1 << 20 };

pub(crate) fn session() -> anyhow::Result<SessionId> {
    Ok(SessionId::group(GroupId::new("staged-group")?))
}

pub(crate) fn actor() -> anyhow::Result<Actor> {
    Ok(Actor {
        user: UserId::new("staged-sender")?,
        device: DeviceId::new("phone")?,
        epoch: 1,
        on_behalf_of: None,
        service: false,
    })
}

/// The message of that number.
pub(crate) fn send(number: u64) -> anyhow::Result<Send> {
    Ok(Send {
        session: session()?,
        client_seq: number,
        on_behalf_of: None,
        content_type: Blob::default(),
        content: Blob(Contents::new(7, 1, SIZE).message(number)),
        extensions: Vec::new(),
    })
}

/// The same as a command.
pub(crate) fn command(number: u64) -> anyhow::Result<Command> {
    let Send { session, client_seq, content_type, content, extensions, .. } = send(number)?;
    let act = Act::Send { content_type, content, extensions };
    Ok(Command::Act { actor: actor()?, session, client_seq, act })
}

/// The numbers of a batch.
pub(crate) fn numbers(first: u64) -> std::ops::Range<u64> {
    first..first + BATCH as u64
}

/// Encoded commands of a batch.
pub(crate) fn commands(first: u64) -> anyhow::Result<Vec<Bytes>> {
    numbers(first).map(|number| Ok(command(number)?.encode())).collect()
}

/// A batch as a log entry.
pub(crate) fn entry(first: u64) -> anyhow::Result<Bytes> {
    let commands = commands(first)?;
    let mut entry = Entry::begin(
        1_700_000_000_000 + first,
        true,
        [7; 16],
        commands.iter().map(|command| command.len() + 4).sum(),
    );
    commands.iter().for_each(|command| Entry::push(&mut entry, command));
    Ok(entry.freeze())
}

/// Where the commands of an entry stand.
pub(crate) fn at(index: u64, position: usize) -> rookery::state::At {
    rookery::state::At {
        shard: 1,
        index,
        position: position as u32,
        time_ms: 1_700_000_000_000 + index,
        time_agrees: true,
        secret: [7; 16],
    }
}

/// A group of which the sender is a member. A backend made it, so nobody's list has to learn of it first.
pub(crate) fn group() -> anyhow::Result<Session> {
    let mut session = Session::new(session()?);
    let sender = actor()?;
    let backend = Actor {
        user: UserId::new("staged-backend")?,
        device: sender.device.clone(),
        service: true,
        ..sender
    };
    let create =
        Act::Change { kind: ChangeKind::Create, users: vec![actor()?.user], most: 100, unknown: None };
    let mut created = session.apply(&at(1, 0), &LIMITS, &backend, 1, &create);
    if created.parked {
        let done: Vec<_> = session
            .pending_intents()
            .map(|intent| (intent.user, intent.link.version, intent.link.member))
            .collect();
        session.linked(&at(1, 1), &done);
        created = session.apply(&at(1, 2), &LIMITS, &backend, 1, &create);
    }
    match created.answer {
        Some(Answer::Ack(_)) => Ok(session),
        other => anyhow::bail!("the group was not made: {other:?}"),
    }
}
