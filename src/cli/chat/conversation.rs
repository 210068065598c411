//! One session as the terminal knows it: messages that were seen, own ones on their way, counts.

use std::collections::BTreeMap;

use rookery_client::wire::reply::{Ack, Page, ReadMark, Summary};
use rookery_client::wire::{
    Blob, DeviceId, GroupAction, Record, RecordKind, SessionId, Signal, Target, UserId, decode,
};

use super::facts::Facts;
use super::wrap::harmless;
use crate::cli::group_words::action_words;
use crate::cli::record::lasts;

/// Messages kept in memory while the newest are shown; older ones are pulled again when scrolled to.
const KEPT: usize = 2_000;
/// How far back scrolling goes, in messages.
const MOST: usize = 20_000;

/// A message, ready to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) time_ms: u64,
    pub(super) sender: UserId,
    pub(super) body: Body,
    /// Sent from this terminal.
    pub(super) own: bool,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Text(String),
    /// Content that is not text, described.
    Other(String),
    /// Something happened, in words.
    Signal(String),
}

/// An own message without an ACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) id: u64,
    pub(super) text: String,
    pub(super) time_ms: u64,
    /// Why it failed.
    pub(super) failed: Option<String>,
}

/// A session.
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) id: SessionId,
    pub(super) entries: BTreeMap<u64, Entry>,
    pub(super) pending: Vec<Pending>,
    /// First seq the cluster keeps.
    pub(super) first_kept: u64,
    pub(super) last_seq: u64,
    pub(super) time_ms: u64,
    pub(super) members: Option<u32>,
    /// What it is called, if it is a group.
    pub(super) facts: Facts,
    pub(super) unread: u64,
    pub(super) count: u64,
    pub(super) read_seq: u64,
    /// A READ up to here is on its way or done.
    pub(super) read_sent: u64,
    pub(super) preview: String,
    /// Where "new" begins: the read cursor when the session was opened.
    pub(super) new_after: Option<u64>,
    /// A page is on its way.
    pub(super) loading: bool,
    /// Its newest page was asked for.
    pub(super) opened: bool,
    /// The user is in it.
    pub(super) member: bool,
    /// Rows scrolled up from the newest.
    pub(super) scroll: usize,
    pub(super) draft: String,
    /// Messages that last for a time only, and until when.
    lasting: BTreeMap<u64, u64>,
}

impl Conversation {
    pub(super) fn new(id: SessionId) -> Self {
        Self {
            id,
            entries: BTreeMap::new(),
            pending: Vec::new(),
            first_kept: 1,
            last_seq: 0,
            time_ms: 0,
            members: None,
            facts: Facts::default(),
            unread: 0,
            count: 0,
            read_seq: 0,
            read_sent: 0,
            preview: String::new(),
            new_after: None,
            loading: false,
            opened: false,
            member: true,
            scroll: 0,
            draft: String::new(),
            lasting: BTreeMap::new(),
        }
    }

    /// Takes a line of the session list.
    pub(super) fn learn(&mut self, summary: &Summary, me: &UserId) {
        self.first_kept = summary.first_seq;
        self.members = Some(summary.members);
        self.member = true;
        self.read_seq = self.read_seq.max(summary.read_seq);
        if summary.last_seq >= self.last_seq {
            self.last_seq = summary.last_seq;
            self.count = summary.count;
            self.unread = summary.unread;
            self.time_ms = self.time_ms.max(summary.time_ms);
            if let Some(last) = &summary.last {
                let body = body(last.kind, &last.sender, last.content_type.as_ref(), last.content.as_ref());
                self.preview = preview(&last.sender, &body, &self.id, me);
            }
        }
    }

    /// Takes a message that is new. Says whether it counts as unread.
    pub(super) fn arrive(&mut self, record: &Record, me: &UserId, device: &DeviceId) -> bool {
        let news = record.seq > self.last_seq;
        let own = record.sender == *me;
        if own && record.device == *device {
            // The ACK and the message may come in either order; the first one settles it.
            let text = String::from_utf8_lossy(record.content.as_ref());
            if let Some(at) = self.pending.iter().position(|p| p.failed.is_none() && p.text == text) {
                self.pending.remove(at);
            }
        }
        if matches!(record.kind, RecordKind::MEMBERS_ADDED | RecordKind::MEMBERS_REMOVED) {
            self.facts.changed();
        }
        if let Some(name) = given_name(record).filter(|_| news) {
            self.facts.named(&name);
        }
        self.put(record, me, device);
        if !news {
            return false;
        }
        self.last_seq = record.seq;
        self.count = record.count;
        self.time_ms = record.time_ms;
        if let Some(entry) = self.entries.get(&record.seq) {
            self.preview = preview(&entry.sender, &entry.body, &self.id, me);
        }
        if own {
            self.unread = 0;
            return false;
        }
        let counts = record.kind.is_countable();
        self.unread += u64::from(counts);
        counts
    }

    /// A recall or an edit changes another message: what was recalled goes at once, and the seq of one that was edited and
    /// is shown here is given, to be pulled again.
    pub(super) fn rewritten(&mut self, record: &Record) -> Option<u64> {
        let target = decode::<Target>(&record.content.0).ok()?.seq;
        let entry = self.entries.get_mut(&target);
        match record.kind {
            RecordKind::RECALL => {
                if let Some(entry) = entry {
                    entry.body = Body::Signal(harmless(&format!("{} recalled this", record.sender)));
                }
                None
            }
            RecordKind::EDIT => entry.map(|_| target),
            _ => None,
        }
    }

    /// Messages whose time has come are shown no longer.
    pub(super) fn tick(&mut self, now_ms: u64) {
        let Self { lasting, entries, last_seq, preview, .. } = self;
        lasting.retain(|seq, until| {
            let lasts = *until > now_ms;
            if !lasts && let Some(entry) = entries.get_mut(seq) {
                entry.body = expired();
                if seq == last_seq {
                    *preview = "(expired)".to_owned();
                }
            }
            lasts
        });
    }

    /// Takes a page of history.
    pub(super) fn page(&mut self, page: &Page, me: &UserId, device: &DeviceId) {
        self.loading = false;
        self.first_kept = page.first_seq;
        self.last_seq = self.last_seq.max(page.last_seq);
        for record in &page.records {
            self.put(record, me, device);
        }
    }

    fn put(&mut self, record: &Record, me: &UserId, device: &DeviceId) {
        let body = body(record.kind, &record.sender, record.content_type.as_ref(), record.content.as_ref());
        let own = record.sender == *me && record.device == *device;
        let entry = Entry { time_ms: record.time_ms, sender: record.sender.clone(), body, own };
        self.entries.insert(record.seq, entry);
        if let Some(after_ms) = lasts(record).filter(|_| record.kind == RecordKind::CONTENT) {
            self.lasting.insert(record.seq, record.time_ms.saturating_add(after_ms));
        }
        let most = if self.scroll > 0 { MOST } else { KEPT };
        while self.entries.len() > most {
            self.entries.pop_first();
        }
    }

    /// An own message is stored.
    pub(super) fn acked(&mut self, id: u64, ack: &Ack, me: &UserId) {
        let Some(at) = self.pending.iter().position(|pending| pending.id == id) else { return };
        let pending = self.pending.remove(at);
        self.last_seq = self.last_seq.max(ack.seq);
        self.unread = 0;
        self.entries.entry(ack.seq).or_insert_with(|| Entry {
            time_ms: ack.time_ms,
            sender: me.clone(),
            body: Body::Text(harmless(&pending.text)),
            own: true,
        });
    }

    /// The read cursor has moved, on whichever device.
    pub(super) fn read(&mut self, mark: &ReadMark) {
        self.read_seq = self.read_seq.max(mark.seq);
        self.unread = self.unread.min(self.count.saturating_sub(mark.count));
    }

    /// The seq below which a page of older messages may be asked for.
    pub(super) fn older_than(&self) -> Option<u64> {
        let first = self.entries.first_key_value().map_or(self.last_seq + 1, |(seq, _)| *seq);
        (first > self.first_kept && self.last_seq > 0 && self.entries.len() < MOST).then_some(first)
    }
}

/// The name that a signal gives the group.
fn given_name(record: &Record) -> Option<Blob> {
    match (record.kind, decode::<GroupAction>(&record.content.0)) {
        (RecordKind::GROUP_CHANGED, Ok(GroupAction::SetProfile { name, .. })) => name,
        _ => None,
    }
}

fn expired() -> Body {
    Body::Signal("(expired)".to_owned())
}

fn body(kind: RecordKind, sender: &UserId, content_type: &[u8], content: &[u8]) -> Body {
    if kind == RecordKind::CONTENT {
        let content_type = String::from_utf8_lossy(content_type);
        let is_text = content_type.is_empty() || content_type.starts_with("text/");
        return match std::str::from_utf8(content) {
            Ok(text) if is_text => Body::Text(harmless(text)),
            // A preview may end inside a character.
            Err(fault) if is_text && fault.valid_up_to() > 0 && content.len() - fault.valid_up_to() < 4 => {
                Body::Text(harmless(&String::from_utf8_lossy(&content[..fault.valid_up_to()])))
            }
            _ => Body::Other(format!("[{}, {} bytes]", harmless(&content_type), content.len())),
        };
    }
    match kind {
        RecordKind::EXPIRED => return expired(),
        RecordKind::RECALLED => return Body::Signal("(recalled)".to_owned()),
        RecordKind::RECALL => return Body::Signal(harmless(&format!("{sender} recalled a message"))),
        RecordKind::EDIT => return Body::Signal(harmless(&format!("{sender} edited a message"))),
        _ => {}
    }
    if kind == RecordKind::GROUP_CHANGED {
        // A preview may hold only the beginning of it.
        let action = decode::<GroupAction>(&bytes::Bytes::copy_from_slice(content));
        let words = action.map_or_else(|_| "changed the group".to_owned(), |action| action_words(&action));
        return Body::Signal(harmless(&format!("{sender} {words}")));
    }
    let users = decode::<Signal>(&bytes::Bytes::copy_from_slice(content)).map(|signal| signal.users);
    let names = match users.as_deref() {
        Ok([only]) if only == sender => None,
        Ok(users) => Some(list(users, sender)),
        Err(_) => Some("somebody".to_owned()),
    };
    Body::Signal(harmless(&match (kind, names) {
        (RecordKind::CREATED, None) => format!("{sender} created the group"),
        (RecordKind::CREATED, Some(names)) => format!("{sender} created the group with {names}"),
        (RecordKind::MEMBERS_ADDED, None) => format!("{sender} joined"),
        (RecordKind::MEMBERS_ADDED, Some(names)) => format!("{sender} added {names}"),
        (RecordKind::MEMBERS_REMOVED, None) => format!("{sender} left"),
        (RecordKind::MEMBERS_REMOVED, Some(names)) => format!("{sender} removed {names}"),
        (RecordKind(number), _) => format!("{sender} did something this program does not know ({number})"),
    }))
}

/// At most a handful of names, without the one who did it.
fn list(users: &[UserId], without: &UserId) -> String {
    const NAMED: usize = 5;
    let names: Vec<&str> = users.iter().filter(|user| *user != without).map(UserId::as_str).collect();
    match names.len() {
        0..=NAMED => names.join(", "),
        many => format!("{} and {} more", names[..NAMED].join(", "), many - NAMED),
    }
}

fn preview(sender: &UserId, body: &Body, session: &SessionId, me: &UserId) -> String {
    match (body, session) {
        (Body::Signal(text), _) => text.clone(),
        (Body::Text(text) | Body::Other(text), _) if sender == me => format!("you: {text}"),
        (Body::Text(text) | Body::Other(text), SessionId::Group(_)) => format!("{sender}: {text}"),
        (Body::Text(text) | Body::Other(text), SessionId::Direct { .. }) => text.clone(),
    }
}
