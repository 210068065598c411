//! The session list: read on every connection, and again when something is unclear; since the mark of the last time, if
//! there is one ([`super::since`]).

use rookery_wire::reply::{Summary, SyncPage};
use rookery_wire::request::Sync;
use rookery_wire::{Blob, ErrorBody, Kind, encode_frame};

use crate::engine::arrivals::{NOT_LIVE, before_live};
use crate::engine::link::{Broken, Phase, Purpose, Verdict};
use crate::engine::{Engine, Millis};
use crate::event::Event;
use crate::options::StartAt;

/// Sessions in one page.
const PAGE: u32 = 200;
/// Shortest time between two readings on one connection, and the longest pause for what stays unresolved.
const PAUSES: (Millis, Millis) = (200, 5_000);
/// Readings in a row that may miss sessions (activity moves them between pages) before that is let be.
const READINGS: u32 = 3;

/// How far the reading is.
#[derive(Debug, Default)]
pub(crate) struct SyncRun {
    /// The reading under way, or the last one.
    pub(crate) generation: u32,
    /// A first list was read.
    pub(crate) done_once: bool,
    /// A list was read on this connection.
    pub(crate) done_here: bool,
    pub(crate) active: bool,
    /// Read to the end, even if all that was unclear is clear before.
    full: bool,
    again_at: Option<Millis>,
    again_fully: bool,
    pause: Millis,
    counted: u64,
    unresolved: bool,
    short: u32,
    /// What is had of the list is that of this mark, or newer; empty: nothing is.
    pub(crate) mark: Blob,
    /// When the list was last read to its end, and how many messages had been pushed by then.
    pub(crate) marked: (Millis, u64),
    /// The page that is awaited is not the first one.
    later: bool,
    /// The reading under way gave the mark …
    pub(crate) asked_since: bool,
    /// … and is told only what has changed since.
    pub(crate) merges: bool,
}

impl SyncRun {
    pub(crate) fn cut(&mut self) {
        self.active = false;
        self.done_here = false;
        self.again_at = None;
    }

    pub(crate) fn is_due(&self) -> bool {
        self.again_at.is_some() || self.active
    }
}

impl Engine {
    /// Reads the whole list, now.
    pub(crate) fn start_sync(&mut self, now: Millis) {
        self.sync.full = true;
        self.begin(now);
    }

    fn begin(&mut self, now: Millis) {
        self.sync.generation += 1;
        self.sync.active = true;
        self.sync.again_at = None;
        self.sync.again_fully = false;
        self.sync.counted = 0;
        self.sync.unresolved = false;
        let since = self.begin_since();
        self.ask_page(now, Blob::default(), since);
    }

    /// Reads the list soon, as far as joined sessions make it necessary.
    pub(crate) fn sync_soon(&mut self, now: Millis) {
        let at = now + PAUSES.0;
        self.sync.again_at = Some(self.sync.again_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Reads the whole list soon.
    pub(crate) fn sync_fully_soon(&mut self, now: Millis) {
        self.sync.again_fully = true;
        self.sync_soon(now);
    }

    pub(crate) fn sync_if_due(&mut self, now: Millis) {
        if self.link.phase == Phase::Up && !self.sync.active && self.sync.again_at.is_some_and(|at| at <= now)
        {
            self.sync.full = self.sync.again_fully;
            self.begin(now);
        }
    }

    fn ask_page(&mut self, now: Millis, after: Blob, since: Blob) {
        self.sync.later = !after.is_empty();
        let id = self.link.request(Purpose::Sync, now);
        encode_frame(Kind::Sync, id, &Sync { after, limit: PAGE, since }, &mut self.out);
    }

    /// SYNC_PAGE.
    pub(crate) fn sync_answer(&mut self, now: Millis, page: SyncPage) -> Result<(), Broken> {
        let before = self.sync.counted;
        self.sync.merges = self.sync.asked_since && !page.full;
        self.leave_named(&page.left);
        for summary in &page.sessions {
            self.learn(now, summary);
        }
        for (session, code) in &page.unresolved {
            self.trouble = format!("{session} could not be asked: {code}");
            let slot = self.sessions.slot(session);
            let session = &mut self.sessions[slot];
            if session.seen != self.sync.generation {
                session.seen = self.sync.generation;
                self.sync.counted += 1;
            }
            session.unresolved = !session.inbox.tracked && !session.announced;
            self.sync.unresolved = true;
        }
        let enough = !self.sync.full && !self.sessions.iter().any(|s| s.announced && !s.inbox.tracked);
        if page.next.is_empty() || enough {
            self.finish_sync(now, &page);
            return Ok(());
        }
        if self.sync.counted == before {
            return Err(Broken::protocol("a SYNC_PAGE that names nothing new and has a next"));
        }
        self.ask_page(now, page.next, Blob::default());
        Ok(())
    }

    fn finish_sync(&mut self, now: Millis, page: &SyncPage) {
        self.sync.active = false;
        if self.sync.merges && page.next.is_empty() {
            self.finish_merge(now, page);
        }
        self.sync.done_once = true;
        self.sync.done_here = true;
        if self.sync.full && !self.sync.merges {
            // Who is missing has gone, unless the list itself is short of names.
            if self.sync.counted >= u64::from(page.total) {
                self.sync.short = 0;
                self.leave_unseen();
            } else if self.sync.short < READINGS {
                self.sync.short += 1;
                self.sync_fully_soon(now);
            }
        }
        if page.next.is_empty() {
            self.keep_mark(now, page);
        }
        if self.sync.unresolved {
            self.sync.pause = (2 * self.sync.pause).clamp(PAUSES.0, PAUSES.1);
            self.sync.again_fully = true;
            self.sync.again_at = Some(now + self.sync.pause);
        } else {
            self.sync.pause = 0;
        }
    }

    fn leave_unseen(&mut self) {
        let generation = self.sync.generation;
        let gone: Vec<_> = self
            .sessions
            .iter()
            .filter(|session| {
                (session.inbox.tracked || session.listed.is_some()) && session.seen != generation
            })
            .map(|session| session.id.clone())
            .collect();
        for session in gone {
            self.left(&session);
        }
    }

    /// ERROR for a SYNC. `Err` when the first one is refused for good: then the client cannot begin.
    pub(crate) fn sync_refused(
        &mut self,
        now: Millis,
        verdict: Verdict,
        body: &ErrorBody,
    ) -> Result<(), Broken> {
        self.sync.active = false;
        self.sync.again_fully = true;
        let pause = match verdict {
            // The application has read the list over this connection meanwhile, whose pages these were: begin again. It says
            // nothing of the mark.
            Verdict::Final if self.sync.later => {
                self.sync.pause = (2 * self.sync.pause).clamp(PAUSES.0, PAUSES.1);
                self.sync.pause
            }
            // It may be the mark: without one everything is told.
            Verdict::Final if self.sync.asked_since => {
                self.forget_mark();
                0
            }
            Verdict::Final if !self.sync.done_once => return Err(Broken::fatal(body.clone())),
            Verdict::Final => PAUSES.1,
            Verdict::Again { after } => after.max(PAUSES.0 / 2),
            Verdict::Elsewhere => 0,
        };
        self.sync.again_at = Some(now + pause);
        Ok(())
    }

    /// One line of the list.
    fn learn(&mut self, now: Millis, summary: &Summary) {
        let slot = self.sessions.slot(&summary.session);
        let generation = self.sync.generation;
        let session = &mut self.sessions[slot];
        if session.seen != generation {
            session.seen = generation;
            self.sync.counted += 1;
        }
        if session.left_in == Some(generation) {
            return;
        }
        session.outbox.raise(summary.last_client_seq);
        session.confirmed = session.confirmed.max(summary.delivered_seq.min(summary.last_seq));
        session.reported = session.reported.max(session.confirmed);
        session.listed = session.listed.max(Some(summary.last_seq));
        if self.deaf {
            return;
        }
        // Nothing is pushed of a session that is not live: the list is read again and again, and tells what there is.
        let not_live = summary.live_from == NOT_LIVE;
        self.sync.unresolved |= not_live;
        let head = if not_live { summary.last_seq } else { before_live(summary.live_from) };
        if session.inbox.tracked {
            session.inbox.exists(head);
            return self.check_gap(now, slot, true);
        }
        // Nobody has had what is not there: whoever says so is wrong, and the device would wait for it for ever.
        session.remembered = session.remembered.map(|had| had.min(summary.last_seq));
        session.handled = session.handled.min(summary.last_seq);
        let fresh = !self.sync.done_once || session.unresolved;
        session.unresolved = false;
        let cursor = self.begin_after(slot, summary, head, fresh && !self.sessions[slot].announced);
        if !fresh && !std::mem::replace(&mut self.sessions[slot].announced, true) {
            self.give(Event::Joined(summary.session.clone()));
        }
        self.track(now, slot, cursor, head.saturating_add(1));
    }

    /// After which seq the application is given a session. `head`: pushes come from after it. `fresh`: it was the
    /// user's before this client began.
    fn begin_after(&mut self, slot: usize, summary: &Summary, head: u64, fresh: bool) -> u64 {
        let session = &self.sessions[slot];
        let kept = summary.first_seq.saturating_sub(1);
        let joined = summary.joined_seq.saturating_sub(1);
        let told = if self.settings.own_cursors { 0 } else { summary.delivered_seq.min(summary.last_seq) };
        let had = session.remembered.unwrap_or(0).max(told).max(session.inbox.cursor);
        let cursor = match self.settings.start {
            StartAt::Beginning => return kept.max(session.inbox.cursor),
            StartAt::Now if fresh => return head.max(kept),
            StartAt::Now => joined.max(session.inbox.cursor),
            StartAt::Resume => joined.max(had),
        };
        if cursor > joined && cursor < kept {
            let (session, from) = (summary.session.clone(), cursor + 1);
            self.give(Event::Skipped { session, from, to: kept });
        }
        cursor.max(kept)
    }
}
