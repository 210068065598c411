//! The fake cluster on what is recalled, edited and blocked, and on who is in a group.

use bytes::Bytes;
use rookery_wire::own::{ManageSelf, SelfAck};
use rookery_wire::reply::MemberPage;
use rookery_wire::request::{Edit, ListMembers, Recall};
use rookery_wire::{
    Blob, ErrorBody, ErrorCode, Extension, Kind, Record, RecordKind, Rewritten, SessionId, Target,
    UserAction, UserId, decode, encode,
};
use tokio::time::{Duration, Instant};

use super::rules::{Plant, State, no};
use super::whole;

/// How late a block comes into force when its answer is too early.
const LATE: Duration = Duration::from_millis(40);

/// What is done to a message: by nothing, or by other content.
type Change = Option<(Blob, Blob)>;

impl State {
    pub(super) fn recall(&mut self, id: u64, request: u32, body: &Bytes) -> Bytes {
        let Recall { session, client_seq, seq, .. } = decode(body).unwrap();
        self.change(id, request, &session, client_seq, seq, None)
    }

    pub(super) fn edit(&mut self, id: u64, request: u32, body: &Bytes) -> Bytes {
        let Edit { session, client_seq, seq, content_type, content, .. } = decode(body).unwrap();
        self.change(id, request, &session, client_seq, seq, Some((content_type, content)))
    }

    fn change(
        &mut self,
        id: u64,
        request: u32,
        name: &SessionId,
        client_seq: u64,
        seq: u64,
        to: Change,
    ) -> Bytes {
        let (user, ..) = self.who(id);
        let Some(session) = self.sessions.get(name) else { return no(request, ErrorCode::NoSuchSession) };
        let owns = session.owner.as_ref() == Some(&user);
        let verdict = match session.log.get(seq as usize - 1) {
            _ if !session.members.contains_key(&user) => Err(ErrorCode::NotMember),
            _ if to.is_some() && self.is_barred(name, &user) => Err(ErrorCode::RefusedByPeer),
            Some(Record { kind: RecordKind::RECALLED, .. }) => Err(ErrorCode::Recalled),
            Some(Record { kind: RecordKind::CONTENT, sender, .. }) => {
                let may = *sender == user || (to.is_none() && owns);
                if may { Ok(()) } else { Err(ErrorCode::NotAllowed) }
            }
            _ => Err(ErrorCode::NoSuchMessage),
        };
        let before = session.log.len();
        let kind = if to.is_none() { RecordKind::RECALL } else { RecordKind::EDIT };
        let content = (kind, Blob::default(), Blob(encode(&Target { seq })));
        let answer = self.store(id, request, name, client_seq, verdict, content);
        if self.sessions[name].log.len() > before {
            self.rewrite(name, seq, user, to);
        }
        answer
    }

    /// Puts what the newest signal says in the place of a message.
    fn rewrite(&mut self, name: &SessionId, seq: u64, by: UserId, to: Change) {
        if to.is_none() && self.plant == Plant::RecallKept {
            return;
        }
        let log = &mut self.sessions.get_mut(name).unwrap().log;
        let signal = log.last().unwrap();
        let mark = Rewritten { by, time_ms: signal.time_ms, seq: signal.seq };
        let record = &mut log[seq as usize - 1];
        record.extensions = vec![Extension { tag: Rewritten::TAG, data: Blob(encode(&mark)) }];
        if to.is_none() {
            record.kind = RecordKind::RECALLED;
        }
        (record.content_type, record.content) = to.unwrap_or_default();
        self.changes.of_session(name);
    }

    /// Whether the other one of a direct session takes nothing of this user.
    pub(super) fn is_barred(&self, session: &SessionId, user: &UserId) -> bool {
        let SessionId::Direct { low, high } = session else { return false };
        let other = if low == user { high } else { low };
        let from = self.bars.get(&(other.clone(), user.clone()));
        self.plant != Plant::BlockIgnored && from.is_some_and(|from| *from <= Instant::now())
    }

    pub(super) fn manage(&mut self, id: u64, request: u32, body: &Bytes) -> Bytes {
        let ManageSelf { number, action, .. } = decode(body).unwrap();
        let (user, device, epoch, _) = self.who(id);
        let acts = self.acts.entry((user.clone(), device, epoch)).or_default();
        if number > *acts + 1 {
            let error = ErrorBody::new(ErrorCode::ClientSeqGap, "gap").with_detail(*acts + 1);
            return whole(Kind::Error, request, &error);
        }
        if number == *acts + 1 {
            *acts = number;
            match action {
                UserAction::Block { user: other } => {
                    let late = if self.plant == Plant::BlockEarly { LATE } else { Duration::ZERO };
                    self.bars.entry((user, other)).or_insert_with(|| Instant::now() + late);
                }
                UserAction::Unblock { user: other } => drop(self.bars.remove(&(user, other))),
                other => panic!("unexpected {other:?}"),
            }
        }
        whole(Kind::SelfAck, request, &SelfAck { number, time_ms: 1, value: 0 })
    }

    pub(super) fn list(&self, request: u32, list: &ListMembers) -> Bytes {
        let Some(session) = self.sessions.get(&list.session) else {
            return no(request, ErrorCode::NoSuchSession);
        };
        let users: Vec<UserId> = session.members.keys().cloned().collect();
        let total = users.len() as u32;
        whole(Kind::MemberPage, request, &MemberPage { users, more: false, total })
    }
}
