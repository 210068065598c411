//! The session list of a device: asked for whole, or since the mark of the last one and put together.
//!
//! A list that is put together is written down as one that was given: of what SYNC since a mark does not name the earlier
//! line says once more what it said, as of now. So the judge holds both against the same rules.

use std::collections::BTreeMap;

use rand::Rng;
use rookery_wire::reply::SyncPage;
use rookery_wire::{Blob, Kind};

use super::{Connection, Device, Waiting};
use crate::check::history::{Line, Micros, Seen, SessionIx, Sync};

/// Sessions asked for in a page.
const PAGE: u32 = 200;
/// How often, of a hundred, a list is asked for since a mark if there is one.
const SINCE: u32 = 75;

/// The list as the device keeps it over its connections.
#[derive(Debug, Default)]
pub(super) struct Kept {
    lines: BTreeMap<SessionIx, Line>,
    mark: Blob,
    /// What was put together, before the whole was asked for at the end.
    before: Option<BTreeMap<SessionIx, Line>>,
}

impl Kept {
    /// The whole list is asked for next and must say what this does.
    pub(super) fn remember(&mut self) {
        self.before = Some(self.lines.clone());
    }
}

/// A list that is being given.
#[derive(Debug)]
pub(super) struct Asked {
    list: Sync,
    left: Vec<SessionIx>,
    full: bool,
}

/// What a line says, without what is of its asking, and what a device knows from itself.
fn bare(line: &Line) -> Line {
    let (invoke, done, carried) = (0, 0, false);
    Line { invoke, done, carried, delivered_seq: 0, last_client_seq: 0, ..line.clone() }
}

impl Device {
    /// Asks for the session list, whole or since the mark.
    pub(super) fn ask_sync(&mut self, connection: &mut Connection) {
        if self.stage.parts.since && self.random.random_range(0..100) < SINCE {
            self.ask_changes(connection);
        } else {
            self.ask_whole(connection);
        }
    }

    /// What has changed since the mark; the whole list while there is none.
    pub(super) fn ask_changes(&mut self, connection: &mut Connection) {
        let since = self.list.mark.clone();
        self.begin_sync(connection, since);
    }

    /// The whole list.
    pub(super) fn ask_whole(&mut self, connection: &mut Connection) {
        self.begin_sync(connection, Blob::default());
    }

    fn begin_sync(&mut self, connection: &mut Connection, since: Blob) {
        self.want_sync = false;
        connection.syncing = true;
        connection.left.clear();
        let invoke = self.stage.now();
        let (lines, unresolved) = (Vec::new(), Vec::new());
        let list = Sync {
            device: self.me,
            epoch: self.epoch,
            invoke,
            done: invoke,
            lines,
            unresolved,
            total: 0,
            since: false,
        };
        let asked = Asked { list, left: Vec::new(), full: since.is_empty() };
        self.ask_sync_page(connection, Blob::default(), since, asked);
    }

    fn ask_sync_page(&self, connection: &mut Connection, after: Blob, since: Blob, list: Asked) {
        let request = rookery_wire::request::Sync { after, limit: PAGE, since };
        let id = connection.link.ask(Kind::Sync, &request);
        connection.expects(id, Waiting::Sync { page: self.stage.now(), list });
    }

    pub(super) fn sync_page(
        &mut self,
        connection: &mut Connection,
        page: Micros,
        mut asked: Asked,
        body: SyncPage,
    ) {
        let done = self.stage.now();
        let list = &mut asked.list;
        list.total = list.total.max(body.total);
        for line in body.sessions {
            let Some(session) = self.stage.cast.find_session(&line.session) else { continue };
            list.lines.push(Line {
                session,
                members: line.members,
                first_seq: line.first_seq,
                last_seq: line.last_seq,
                count: line.count,
                unread: line.unread,
                joined_seq: line.joined_seq,
                read_seq: line.read_seq,
                delivered_seq: line.delivered_seq,
                last_client_seq: line.last_client_seq,
                last: line.last.map(|last| (last.seq, last.kind.0)),
                carried: false,
                invoke: page,
                done,
            });
            // A LEFT that came meanwhile goes before a page that may have been looked at earlier.
            if !connection.left.contains(&session) {
                self.is_in(session, line.joined_seq, done);
                self.live_from(connection, session, line.live_from);
            }
        }
        asked.left.extend(body.left.iter().filter_map(|session| self.stage.cast.find_session(session)));
        asked.full |= body.full;
        for (session, code) in body.unresolved {
            self.want_sync = true;
            if let Some(session) = self.stage.cast.find_session(&session) {
                asked.list.unresolved.push((session, code.number()));
            }
        }
        asked.list.done = done;
        if body.next.is_empty() {
            connection.syncing = false;
            self.stage.note();
            self.list_is_whole(connection, asked, body.mark);
            self.fill(connection);
        } else {
            self.ask_sync_page(connection, body.next, Blob::default(), asked);
        }
    }

    /// The user is in a session, as of the request that has just been answered.
    fn is_in(&mut self, session: SessionIx, joined_seq: u64, done: Micros) {
        self.joined.insert(session);
        let view = self.views.entry(session).or_default();
        view.barred = false;
        view.told = done;
        view.start_at(joined_seq);
    }

    fn live_from(&mut self, connection: &mut Connection, session: SessionIx, seq: u64) {
        connection.live.insert(session);
        self.views.entry(session).or_default().live_from(seq);
        self.saw(connection, session, Seen::Live(seq));
    }

    /// The last page has come: what it leaves out is as it was.
    fn list_is_whole(&mut self, connection: &mut Connection, asked: Asked, mark: Blob) {
        let Asked { mut list, mut left, full } = asked;
        left.extend(&connection.left);
        let open = |session: &SessionIx| list.unresolved.iter().any(|(known, _)| known == session);
        self.list.lines.retain(|session, _| open(session) || !(full || left.contains(session)));
        let named: Vec<SessionIx> = list.lines.iter().map(|line| line.session).collect();
        let unnamed =
            self.list.lines.values().filter(|line| !named.contains(&line.session) && !open(&line.session));
        let (invoke, done) = (list.invoke, list.done);
        let carried: Vec<Line> =
            unnamed.map(|line| Line { carried: true, invoke, done, ..line.clone() }).collect();
        for line in &carried {
            self.is_in(line.session, line.joined_seq, done);
            if !connection.live.contains(&line.session) {
                self.live_from(connection, line.session, line.last_seq + 1);
            }
        }
        self.list.lines.extend(list.lines.iter().map(|line| (line.session, line.clone())));
        self.list.mark = mark;
        list.since = !full;
        list.lines.extend(carried);
        if list.unresolved.is_empty() {
            let views = &self.views;
            // What it does not name we were removed from, unless we joined meanwhile.
            let told = |session: &SessionIx| views.get(session).is_some_and(|view| view.told >= list.invoke);
            let gone: Vec<SessionIx> = self.joined.iter().copied().filter(|session| !told(session)).collect();
            for session in gone {
                self.joined.remove(&session);
                self.saw(connection, session, Seen::Unlisted);
            }
        }
        self.log.syncs.push(list);
        if full {
            self.compare_lists();
        }
    }

    /// In the end nothing moves: the list put together since marks is the whole list.
    fn compare_lists(&mut self) {
        let Some(before) = self.list.before.take().filter(|_| self.stage.parts.since) else { return };
        let sessions: Vec<SessionIx> = before.keys().chain(self.list.lines.keys()).copied().collect();
        for session in sessions {
            let [before, now] = [&before, &self.list.lines].map(|lines| lines.get(&session).map(bare));
            if before != now {
                let name = self.stage.cast.session(session).map(ToString::to_string).unwrap_or_default();
                let text = format!(
                    "{name}: the list put together since marks says {before:?}, the whole list {now:?}"
                );
                self.log.faults.push((self.stage.now(), self.me, text));
            }
        }
    }
}
