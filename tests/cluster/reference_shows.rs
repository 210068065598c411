//! What a user of the [reference](super::reference) is shown: pages, lists, members, relations, receipts. Asking changes
//! nothing.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rookery_client::wire::live::Which;
use rookery_wire::{ErrorCode, RecordKind, RelationState, SessionId, UserId};

use super::reference::{Answer, Conversation, Line, Own, Refused, Shown, World};

impl World {
    pub(super) fn relations(&self, user: &UserId) -> Answer {
        let pairs = self.asked.iter().chain(&self.friends).chain(&self.blocked);
        let with = pairs.filter_map(|(one, two)| match () {
            () if one == user => Some(two.clone()),
            // That another blocks this one is nothing to be seen.
            () if two == user => Some(one.clone()),
            () => None,
        });
        let all: BTreeSet<UserId> = with.collect();
        let lines = all.into_iter().map(|other| {
            let (state, blocked) = (self.state(user, &other), self.blocks(user, &other));
            (other, state, blocked)
        });
        Answer::Relations(
            lines.filter(|(_, state, blocked)| *blocked || *state != RelationState::None).collect(),
        )
    }

    pub(super) fn pull(
        &self,
        user: &UserId,
        session: &SessionId,
        from: u64,
        backward: bool,
        max: u32,
    ) -> Result<Answer, Refused> {
        let conversation = self.within(user, session, 0)?;
        let own = self.own.get(&(user.clone(), session.clone())).cloned().unwrap_or_default();
        let (first, last) = (conversation.readable_from(user), conversation.last());
        let begins = first.max(own.cleared + 1);
        let max = u64::from(max);
        let slice = |from: u64| match backward {
            true => {
                let to = if from == 0 { last } else { from.min(last) };
                first.max((to + 1).saturating_sub(max))..=to
            }
            false => from.max(first)..=last.min(from.max(first) + max - 1),
        };
        let kept = |range: std::ops::RangeInclusive<u64>| -> Vec<Shown> {
            let all = range.filter(|seq| *seq > own.cleared).filter_map(|seq| conversation.at(seq));
            let hides = |record: &Shown| own.deleted.contains(&record.seq) && is_message(record.kind);
            all.map(|record| if hides(record) { left_of(record) } else { record.clone() }).collect()
        };
        let mut records = kept(slice(from));
        if records.is_empty() && !backward && last > own.cleared {
            records = kept(slice(from.max(begins)));
        }
        Ok(Answer::Page { first: begins, last, records })
    }

    pub(super) fn list(&self, user: &UserId) -> BTreeMap<SessionId, Line> {
        let mine = self.sessions.iter().filter(|(_, session)| session.members.contains_key(user));
        mine.map(|(session, conversation)| {
            let own = self.own.get(&(user.clone(), session.clone())).cloned().unwrap_or_default();
            (session.clone(), line(user, conversation, &own))
        })
        .collect()
    }

    pub(super) fn members(&self, user: &UserId, session: &SessionId) -> Result<Answer, Refused> {
        let conversation = self.within(user, session, 0)?;
        Ok(Answer::Members(conversation.members.keys().cloned().collect()))
    }

    pub(super) fn receipts(
        &self,
        user: &UserId,
        session: &SessionId,
        seq: u64,
        which: Which,
    ) -> Result<Answer, Refused> {
        let conversation = self.within(user, session, 0)?;
        let of = conversation.at(seq).filter(|_| seq >= conversation.readable_from(user));
        let of = of.ok_or(ErrorCode::NoSuchMessage)?;
        let (mut lines, mut counts) = (Vec::new(), (0, 0, 0));
        for (member, joined) in &conversation.members {
            if *member == of.sender || *joined > seq {
                continue;
            }
            // To one whom it blocks nobody shows how far it has read.
            if self.blocks(member, user) {
                counts.2 += 1;
                continue;
            }
            let cursor = self.own.get(&(member.clone(), session.clone())).map_or(0, |own| own.read);
            let read = cursor >= seq || conversation.own_last(member) > seq;
            *if read { &mut counts.0 } else { &mut counts.1 } += 1;
            if read == (which == Which::Read) {
                lines.push((member.clone(), cursor));
            }
        }
        Ok(Answer::Receipts(lines, counts))
    }
}

/// Whether there is, or was, something that a user can delete; signals stay.
fn is_message(kind: RecordKind) -> bool {
    [RecordKind::CONTENT, RecordKind::RECALLED, RecordKind::EXPIRED].contains(&kind)
}

/// What a user sees of a message it has deleted.
fn left_of(record: &Shown) -> Shown {
    Shown { kind: RecordKind::DELETED, content: Bytes::new(), changed: None, ..record.clone() }
}

fn line(user: &UserId, conversation: &Conversation, own: &Own) -> Line {
    let (last, joined) = (conversation.last(), conversation.members[user]);
    let floor = own.read.max(conversation.own_last(user)).max(joined - 1).max(own.cleared);
    let unread = conversation.records.iter().filter(|record| {
        record.seq > floor && record.kind == RecordKind::CONTENT && !own.deleted.contains(&record.seq)
    });
    let mut deleted: Vec<(u64, u64)> = Vec::new();
    for seq in &own.deleted {
        match deleted.last_mut() {
            Some((_, to)) if *to + 1 == *seq => *to = *seq,
            _ => deleted.push((*seq, *seq)),
        }
    }
    let preview = conversation.at(last).filter(|_| last > own.cleared && !own.deleted.contains(&last));
    Line {
        members: conversation.members.len() as u32,
        first: conversation.readable_from(user).max(own.cleared + 1),
        last,
        count: conversation.count(last),
        unread: unread.count() as u64,
        joined,
        read: own.read,
        cleared: own.cleared,
        deleted,
        preview: preview.map(|record| (record.seq, record.kind)),
        set: own.set.clone(),
    }
}
