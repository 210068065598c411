//! What a device does of itself: sends, pulls, reads, lists, membership changes, changes of node.

use bytes::{BufMut, BytesMut};
use rand::Rng;
use rand::seq::IndexedRandom;
use rookery_wire::group::ManageGroup;
use rookery_wire::request::{Consistency, Delivered, Direction, Members, Pull, Read, Send as SendBody};
use rookery_wire::{Blob, Expires, Extension, GroupAction, Kind, Retention, SessionId, encode};

use super::rewrite::TEXT;
use super::{Connection, Device, End, Waiting, Why};
use crate::check::history::{Act, Fresh, Mark, NEVER, Page, SessionIx, UserIx};
use crate::check::print::content_hash;

/// Records asked for when a gap is filled.
const FILL: u32 = 200;
/// How often, of a hundred, a message lasts for a time only, and for how long, milliseconds.
const LASTING: u32 = 12;
const LASTS_MS: [u64; 3] = [1_000, 1_700, 3_000];
/// Bytes asked for at most, within any sane frame.
const PAGE_BYTES: u32 = 512 << 10;

impl Device {
    /// One act of the load.
    pub(super) fn play(&mut self, connection: &mut Connection) -> Result<(), End> {
        if self.stage.is_full() {
            return Ok(());
        }
        let room = self.lanes.values().map(super::Lane::waiting).sum::<usize>() < self.stage.pace.window;
        self.unbar();
        self.look_at_recalled(connection);
        match self.random.random_range(0..1000) {
            0..3 => return Err(End::Leave),
            3..8 => self.ask_sync_if_idle(connection),
            8..30 => self.pull_something(connection),
            30..50 => self.read_something(connection),
            50..60 => self.tell_delivered(connection),
            60..66 => self.bar_somebody(),
            66..106 if room => self.rewrite_something(),
            _ if room => self.send_something(),
            _ => {}
        }
        self.ask_pending(connection);
        self.ask_own(connection);
        Ok(())
    }

    fn ask_sync_if_idle(&mut self, connection: &mut Connection) {
        if !connection.syncing {
            self.ask_sync(connection);
        }
    }

    fn send_something(&mut self) {
        if self.create_or_change() || self.leave() {
            return;
        }
        let Some(session) = self.somewhere() else { return };
        let Some(number) = self.lanes.entry(session).or_default().next() else { return };
        let Some(name) = self.stage.cast.session(session).cloned() else { return };
        let content = self.content(session, number);
        let hash = content_hash(TEXT.as_bytes(), &content, &[]);
        let lasts = self.stage.parts.lasting && self.random.random_range(0..100) < LASTING;
        let lasts_ms = if lasts { LASTS_MS.choose(&mut self.random).copied().unwrap_or(0) } else { 0 };
        let expires = Extension { tag: Expires::TAG, data: Blob(encode(&Expires { after_ms: lasts_ms })) };
        let body = SendBody {
            session: name,
            client_seq: number,
            on_behalf_of: None,
            content_type: Blob::from(TEXT),
            content: Blob(content.freeze()),
            extensions: Some(expires).filter(|_| lasts).into_iter().collect(),
        };
        self.enqueue(session, Act::Content, Kind::Send, encode(&body), hash);
        if let Some(send) = self.log.sends.last_mut() {
            send.lasts_ms = lasts_ms;
        }
    }

    /// Content that is made once and never again.
    pub(super) fn content(&mut self, session: SessionIx, number: u64) -> BytesMut {
        let (least, most) = self.stage.pace.content;
        let size = self.random.random_range(least..=most.max(least));
        let mut content = BytesMut::with_capacity(size.max(48));
        content.extend_from_slice(format!("{}.{}.{}.{number} ", self.me.0, self.epoch, session.0).as_bytes());
        while content.len() < size {
            content.put_u8(self.random.random_range(b'a'..=b'z'));
        }
        content
    }

    /// A session to speak in: one we are in, or one of our pairs that may not exist yet.
    fn somewhere(&mut self) -> Option<SessionIx> {
        let user = self.stage.cast.user_of(self.me);
        let pairs = self.stage.cast.pairs.iter().filter(|(_, pair)| pair.contains(&user));
        let mut sessions: Vec<SessionIx> = pairs.map(|(session, _)| *session).collect();
        let is_group =
            |session: &SessionIx| matches!(self.stage.cast.session(*session), Some(SessionId::Group(_)));
        sessions.extend(self.joined.iter().copied().filter(is_group));
        // A guest tries his luck where he was once a member, too: it must be refused, whenever he is not.
        let guest = |session: &SessionIx| {
            self.stage.cast.groups.iter().any(|group| group.session == *session && group.guest == user)
        };
        sessions.extend(self.views.keys().copied().filter(guest));
        sessions.retain(|session| !self.stage.cast.is_silent(user, *session));
        sessions.choose(&mut self.random).copied()
    }

    /// The owner of a group creates it, and now and then lets its guest in or out. True if that was the act.
    fn create_or_change(&mut self) -> bool {
        let stage = self.stage.clone();
        for group in stage.cast.groups.iter().filter(|group| group.owner == self.me) {
            let lane = self.lanes.entry(group.session).or_default();
            let Some(number) = lane.next() else { continue };
            if number == 1 {
                self.change(group.session, Kind::CreateGroup, Act::Create(group.members.clone()));
                return true;
            }
            if let Some(count) = group.keep.filter(|_| number == 2) {
                self.keep_only(group.session, number, count);
                return true;
            }
            if self.random.random_range(0..25) == 0 {
                let guest: Vec<UserIx> = vec![group.guest];
                let out = lane.guest_inside;
                lane.guest_inside = !out;
                let (kind, act) = match out {
                    true => (Kind::RemoveMembers, Act::Remove(guest)),
                    false => (Kind::AddMembers, Act::Add(guest)),
                };
                self.change(group.session, kind, act);
                return true;
            }
        }
        false
    }

    /// From now on the group keeps so many records.
    fn keep_only(&mut self, session: SessionIx, client_seq: u64, count: u64) {
        let Some(name) = self.stage.cast.session(session).cloned() else { return };
        let action = GroupAction::SetRetention(Retention { age_ms: 0, count });
        let body = ManageGroup { session: name, client_seq, on_behalf_of: None, action };
        self.enqueue(session, Act::Keep(count), Kind::ManageGroup, encode(&body), 0);
    }

    /// A guest goes by itself, now and then. True if that was the act.
    fn leave(&mut self) -> bool {
        let user = self.stage.cast.user_of(self.me);
        let groups = self.stage.cast.groups.iter();
        let mut in_it = groups.filter(|group| group.guest == user && self.joined.contains(&group.session));
        let Some(session) = in_it.next().map(|group| group.session) else { return false };
        if self.random.random_range(0..60) != 0 {
            return false;
        }
        self.change(session, Kind::RemoveMembers, Act::Remove(vec![user]));
        true
    }

    fn change(&mut self, session: SessionIx, kind: Kind, act: Act) {
        let (Act::Create(users) | Act::Add(users) | Act::Remove(users)) = &act else { return };
        let cast = &self.stage.cast;
        let users = users.iter().filter_map(|user| cast.names.users.get(user.0 as usize).cloned()).collect();
        let number = self.lanes.entry(session).or_default().next();
        let (Some(name), Some(client_seq)) = (cast.session(session).cloned(), number) else { return };
        let body = Members { session: name, client_seq, on_behalf_of: None, users };
        self.enqueue(session, act, kind, encode(&body), 0);
    }

    fn pull_something(&mut self, connection: &mut Connection) {
        let Some(session) = self.joined.iter().copied().collect::<Vec<_>>().choose(&mut self.random).copied()
        else {
            return;
        };
        let have = self.views.get(&session).map_or(0, |view| view.have);
        let fresh = match self.random.random_bool(0.7) {
            true => Fresh::Linear,
            false => Fresh::AtLeast(have),
        };
        let backward = self.random.random_bool(0.5);
        let from = match backward {
            true if self.random.random_bool(0.5) => 0,
            true => self.random.random_range(0..=have),
            false => self.random.random_range(1..=have + 1),
        };
        let max = self.random.random_range(1..60);
        self.pull(connection, session, from, backward, max, fresh, Why::Look);
    }

    #[expect(clippy::too_many_arguments, reason = "a pull has that many sides")]
    pub(super) fn pull(
        &mut self,
        connection: &mut Connection,
        session: SessionIx,
        from: u64,
        backward: bool,
        max: u32,
        fresh: Fresh,
        why: Why,
    ) {
        let Some(name) = self.stage.cast.session(session).cloned() else { return };
        let request = Pull {
            session: name,
            from_seq: from,
            direction: if backward { Direction::Backward } else { Direction::Forward },
            max_count: max,
            max_bytes: PAGE_BYTES,
            consistency: match fresh {
                Fresh::Linear => Consistency::Linearizable,
                Fresh::AtLeast(seq) => Consistency::AtLeast(seq),
            },
        };
        let id = connection.link.ask(Kind::Pull, &request);
        let invoke = self.stage.now();
        let (device, done, records) = (self.me, NEVER, Vec::new());
        let (first_seq, last_seq) = (0, 0);
        let page =
            Page { device, session, from, backward, max, fresh, invoke, done, first_seq, last_seq, records };
        connection.expects(id, Waiting::Pull { page, why });
    }

    /// Pulls what pushes skipped.
    pub(super) fn fill(&mut self, connection: &mut Connection) {
        let wanted: Vec<(SessionIx, u64, u64)> = self
            .views
            .iter()
            .filter(|(session, _)| self.joined.contains(session))
            .filter_map(|(session, view)| Some((*session, view.wants()?, view.live)))
            .collect();
        for (session, from, live) in wanted {
            if let Some(view) = self.views.get_mut(&session) {
                view.filling = true;
            }
            self.pull(connection, session, from, false, FILL, Fresh::AtLeast(live - 1), Why::Fill);
        }
    }

    fn read_something(&mut self, connection: &mut Connection) {
        let user = self.stage.cast.user_of(self.me);
        let silent = |session: &SessionIx| self.stage.cast.is_silent(user, *session);
        let sessions: Vec<SessionIx> = self.joined.iter().copied().filter(|at| !silent(at)).collect();
        let Some(session) = sessions.choose(&mut self.random).copied() else { return };
        let have = self.views.get(&session).map_or(0, |view| view.have);
        let Some(name) = self.stage.cast.session(session).cloned() else { return };
        if have == 0 {
            return;
        }
        // Sometimes less than before: the cursor must not follow.
        let seq = if self.random.random_bool(0.7) { have } else { self.random.random_range(1..=have) };
        let id = connection.link.ask(Kind::Read, &Read { session: name, seq });
        connection.expects(id, Waiting::Read(self.log.marks.len()));
        let (device, invoke) = (self.me, self.stage.now());
        self.log.marks.push(Mark { device, session, seq, invoke, done: NEVER, answer: None, refused: false });
        self.stage.note();
    }

    fn tell_delivered(&mut self, connection: &mut Connection) {
        let name = |session: &SessionIx| self.stage.cast.session(*session).cloned();
        let cursors = self.joined.iter().filter_map(|session| {
            Some((name(session)?, self.views.get(session).map(|view| view.have).filter(|have| *have > 0)?))
        });
        let body = Delivered { cursors: cursors.collect() };
        connection.link.tell(Kind::Delivered, &body);
    }
}
