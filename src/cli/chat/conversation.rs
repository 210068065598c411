//! One session as the terminal knows it: messages that were seen, own ones on their way, counts.

use std::collections::BTreeMap;

use rookery_client::Goes;
use rookery_client::wire::own::Settings;
use rookery_client::wire::reply::{Ack, Page, ReadMark, Summary};
use rookery_client::wire::{
    Blob, DeviceId, GroupAction, Record, RecordKind, SessionId, Signal, Target, UserId, decode,
};

use super::drafts::Draft;
use super::facts::Facts;
use super::fading::Fading;
use super::wrap::harmless;
use crate::cli::group_words::action_words;

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
    /// What it is; a message that was taken back or has gone is content no more.
    pub(super) kind: RecordKind,
    /// Whether it stays.
    pub(super) goes: Goes,
    /// When it goes, once that is known.
    pub(super) until_ms: Option<u64>,
}

impl Entry {
    /// It is what a user wrote, and says it still.
    pub(super) fn is_content(&self) -> bool {
        self.kind == RecordKind::CONTENT
    }
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
    pub(super) goes: Goes,
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
    pub(super) draft: Draft,
    /// How the user has set it, on whichever device; the draft aside.
    pub(super) settings: Settings,
    /// It was marked as unread when it was opened: seeing it ends that.
    pub(super) ends_mark: bool,
    /// The settings have come by a push since the list was asked for, so what that says of them may be older.
    pub(super) set_lately: bool,
    /// How far the other user of a direct session has read, as far as it was told here.
    pub(super) other_read: u64,
    /// Content of others behind this counts as unread, if it is there still.
    unread_after: u64,
    fading: Fading,
    now_ms: u64,
}

impl Conversation {
    pub(super) fn new(id: SessionId, now_ms: u64) -> Self {
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
            draft: Draft::default(),
            settings: Settings::default(),
            ends_mark: false,
            set_lately: false,
            other_read: 0,
            unread_after: 0,
            fading: Fading::default(),
            now_ms,
        }
    }

    /// Takes a line of the session list.
    pub(super) fn learn(&mut self, summary: &Summary, me: &UserId) {
        self.first_kept = summary.first_seq;
        self.members = Some(summary.members);
        self.member = true;
        self.read_upto(summary.read_seq);
        if summary.last_seq >= self.last_seq {
            self.last_seq = summary.last_seq;
            self.count = summary.count;
            self.unread = summary.unread;
            self.time_ms = self.time_ms.max(summary.time_ms);
            match &summary.last {
                Some(last) => {
                    let body =
                        body(last.kind, &last.sender, last.content_type.as_ref(), last.content.as_ref());
                    self.preview = preview(&last.sender, &body, &self.id, me);
                }
                None => self.preview.clear(),
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
        let counts = record.kind.is_countable();
        if own && counts {
            self.unread = 0;
            return false;
        }
        self.unread += u64::from(counts);
        counts
    }

    /// A recall or an edit changes another message: what was recalled goes at once, and the seq of one that was edited and
    /// is shown here is given, to be pulled again.
    pub(super) fn rewritten(&mut self, record: &Record) -> Rewrites {
        let Ok(Target { seq }) = decode::<Target>(&record.content.0) else { return Rewrites::Nothing };
        match record.kind {
            RecordKind::RECALL => {
                let words = harmless(&format!("{} recalled this", record.sender));
                match self.gone(seq, RecordKind::RECALLED, &words) {
                    // It is not at hand, so only the cluster can say whether it counted.
                    false if seq > self.unread_after && self.unread > 0 => Rewrites::Count,
                    _ => Rewrites::Nothing,
                }
            }
            RecordKind::EDIT if self.entries.contains_key(&seq) => Rewrites::Message(seq),
            _ => Rewrites::Nothing,
        }
    }

    /// The content of a message has gone: what counted as unread does so no longer. Says whether it was there.
    fn gone(&mut self, seq: u64, kind: RecordKind, words: &str) -> bool {
        self.fading.forget(seq);
        let Some(entry) = self.entries.get_mut(&seq) else { return false };
        if entry.kind == RecordKind::DELETED {
            return true;
        }
        let was_content = entry.kind == RecordKind::CONTENT;
        (entry.kind, entry.goes, entry.until_ms) = (kind, Goes::Never, None);
        entry.body = Body::Signal(words.to_owned());
        if was_content && seq > self.unread_after {
            self.unread = self.unread.saturating_sub(1);
        }
        if seq == self.last_seq {
            words.clone_into(&mut self.preview);
        }
        was_content
    }

    /// Messages whose time has come are shown no longer.
    pub(super) fn tick(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        for seq in self.fading.due(now_ms) {
            self.gone(seq, RecordKind::EXPIRED, EXPIRED);
        }
    }

    /// The other user of a direct session has read up to here: what was to burn once it is read begins to.
    pub(super) fn read_by_other(&mut self, upto: u64) {
        self.other_read = self.other_read.max(upto);
        self.burn(false, self.other_read);
    }

    /// Whether own messages burn once the other user has read them.
    pub(super) fn waits_for_other(&self) -> bool {
        self.fading.waits_for_other()
    }

    fn read_upto(&mut self, seq: u64) {
        self.read_seq = self.read_seq.max(seq);
        self.unread_after = self.unread_after.max(self.read_seq);
        self.burn(true, self.read_seq);
    }

    fn burn(&mut self, by_me: bool, upto: u64) {
        for (seq, until) in self.fading.read(by_me, upto, self.now_ms) {
            if let Some(entry) = self.entries.get_mut(&seq) {
                entry.until_ms = Some(until);
            }
        }
    }

    /// What the user has cleared or deleted, on whichever device, is shown no more. Says whether that is new.
    pub(super) fn conceal(&mut self, settings: &Settings) -> bool {
        let known = &self.settings;
        if known.cleared_seq == settings.cleared_seq && known.deleted == settings.deleted {
            return false;
        }
        let kept = self.entries.split_off(&settings.cleared_seq.saturating_add(1));
        let cleared = std::mem::replace(&mut self.entries, kept);
        cleared.keys().for_each(|seq| self.fading.forget(*seq));
        if settings.cleared_seq >= self.last_seq {
            (self.unread, self.preview) = (0, String::new());
        }
        let counted = cleared.range(self.unread_after.saturating_add(1)..);
        let counted = counted.filter(|(_, entry)| entry.kind == RecordKind::CONTENT).count() as u64;
        self.unread = self.unread.saturating_sub(counted);
        self.unread_after = self.unread_after.max(settings.cleared_seq);
        for (from, to) in &settings.deleted {
            let messages = self.entries.range(*from..=(*to).max(*from));
            let of_users = messages.filter(|(_, entry)| is_content(entry.kind)).map(|(seq, _)| *seq);
            for seq in of_users.collect::<Vec<_>>() {
                self.gone(seq, RecordKind::DELETED, DELETED);
            }
        }
        true
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
        let (seq, mine) = (record.seq, record.sender == *me);
        let has_gone =
            self.entries.get(&seq).is_some_and(|known| is_content(known.kind) && !known.is_content());
        if has_gone && record.kind == RecordKind::CONTENT {
            // A page from before that; what has gone does not come back.
            return;
        }
        let goes = Goes::of(record);
        let entry = Entry {
            time_ms: record.time_ms,
            sender: record.sender.clone(),
            body,
            own: mine && record.device == *device,
            kind: record.kind,
            goes,
            until_ms: self.fading.put(seq, goes, record.time_ms, mine),
        };
        let before = self.entries.insert(seq, entry);
        let was_content = before.is_some_and(|before| before.kind == RecordKind::CONTENT);
        if was_content && record.kind != RecordKind::CONTENT && seq > self.unread_after {
            self.unread = self.unread.saturating_sub(1);
        }
        if mine && is_content(record.kind) {
            self.unread_after = self.unread_after.max(seq);
        }
        match goes {
            Goes::OnceRead(_) if mine => self.burn(false, self.other_read),
            Goes::OnceRead(_) => self.burn(true, self.read_seq),
            _ => {}
        }
        let most = if self.scroll > 0 { MOST } else { KEPT };
        while self.entries.len() > most {
            if let Some((seq, _)) = self.entries.pop_first() {
                self.fading.forget(seq);
            }
        }
    }

    /// An own message is stored.
    pub(super) fn acked(&mut self, id: u64, ack: &Ack, me: &UserId) {
        let Some(at) = self.pending.iter().position(|pending| pending.id == id) else { return };
        let pending = self.pending.remove(at);
        if ack.seq > self.last_seq {
            (self.last_seq, self.count) = (ack.seq, self.count.max(ack.count));
        }
        self.unread_after = self.unread_after.max(ack.seq);
        self.unread = self.unread.min(self.count.saturating_sub(ack.count));
        if !self.entries.contains_key(&ack.seq) {
            let until_ms = self.fading.put(ack.seq, pending.goes, ack.time_ms, true);
            let entry = Entry {
                time_ms: ack.time_ms,
                sender: me.clone(),
                body: Body::Text(harmless(&pending.text)),
                own: true,
                kind: RecordKind::CONTENT,
                goes: pending.goes,
                until_ms,
            };
            self.entries.insert(ack.seq, entry);
            self.burn(false, self.other_read);
        }
    }

    /// The read cursor has moved, on whichever device.
    pub(super) fn read(&mut self, mark: &ReadMark) {
        self.read_upto(mark.seq);
        self.unread = self.unread.min(self.count.saturating_sub(mark.count));
        self.recount();
    }

    /// How much is unread, if all of it is at hand: a difference of counts has recalled and expired messages in it.
    fn recount(&mut self) {
        let from = self.unread_after.saturating_add(1);
        let is_whole = self.entries.first_key_value().is_some_and(|(first, _)| *first <= from);
        let behind = self.entries.range(from..);
        if is_whole && behind.clone().count() as u64 == (self.last_seq + 1).saturating_sub(from) {
            self.unread = behind.filter(|(_, entry)| entry.is_content()).count() as u64;
        }
    }

    /// All that is loaded, to its end, is being read.
    pub(super) fn seen(&mut self) {
        self.unread = 0;
        self.unread_after = self.unread_after.max(self.last_seq);
    }

    /// Not in the list until something is written, or for good.
    pub(super) fn is_hidden(&self) -> bool {
        self.settings.hidden_count.is_some_and(|count| self.count <= count)
    }

    /// The user wants no notice of it.
    pub(super) fn is_muted(&self, now_ms: u64) -> bool {
        self.settings.muted_until_ms > now_ms
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

/// What has become of another message, as a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rewrites {
    /// Nothing that is not done.
    Nothing,
    /// The message with this seq says something else now.
    Message(u64),
    /// How many are unread must be asked.
    Count,
}

/// What is left of a message whose time has come.
const EXPIRED: &str = "(expired)";
/// What is left of a message that the user has deleted.
const DELETED: &str = "(deleted for you)";

/// Whether a record is, or was, what a user wrote.
fn is_content(kind: RecordKind) -> bool {
    matches!(kind, RecordKind::CONTENT | RecordKind::RECALLED | RecordKind::EXPIRED | RecordKind::DELETED)
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
        RecordKind::EXPIRED => return Body::Signal(EXPIRED.to_owned()),
        RecordKind::DELETED => return Body::Signal(DELETED.to_owned()),
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
