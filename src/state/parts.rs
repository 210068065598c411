//! Reading everything when that is more than one command holds: the parts that go before the act that has the number.
//!
//! A part is judged as the act will be, and moves nothing unless that will be carried out: a repeat, a number that is refused,
//! a device that is registered no more, a key that was used. It takes no number and no key; whoever repeats it before the act
//! has taken them moves the cursors as far as they are then, which is still before the answer.
//!
//! How much was unread was counted before the first part, and cannot be counted again once that has moved something. So the
//! first part leaves the figure with the user, and the act answers with it, whichever node brings it in the end.

use bincode::{Decode, Encode};
use rookery_wire::codec::Source;
use rookery_wire::own::SelfAck;
use rookery_wire::{ErrorBody, RequestKey, UserAction};

use super::command::{Actor, ReadTo};
use super::keyed::Known;
use super::outcome::{Answer, Gate, Outcome};
use super::own::fingerprint;
use super::session::At;
use super::user::{User, frozen};

/// What an act is known by.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub enum PartOf {
    /// The number that a device has given it.
    Numbered {
        /// Who.
        actor: Actor,
        /// Which.
        number: u64,
    },
    /// A backend's key.
    Keyed(RequestKey),
    /// A number, and how many messages were unread before the first part.
    CountedNumber {
        /// Who.
        actor: Actor,
        /// Which.
        number: u64,
        /// In all sessions.
        unread: u64,
    },
    /// A backend's key, and how many messages were unread before the first part.
    CountedKey {
        /// Which.
        key: RequestKey,
        /// In all sessions.
        unread: u64,
    },
}

impl PartOf {
    /// What it is known by alone, and the figure if there is one.
    fn parted(&self) -> (PartOf, Option<u64>) {
        match self {
            PartOf::CountedNumber { actor, number, unread } => {
                (PartOf::Numbered { actor: actor.clone(), number: *number }, Some(*unread))
            }
            PartOf::CountedKey { key, unread } => (PartOf::Keyed(key.clone()), Some(*unread)),
            of => (of.clone(), None),
        }
    }

    /// Whether an act of this actor's with that number makes an end of it: its number is taken.
    fn is_over(&self, by: &Actor, upto: u64) -> bool {
        match self {
            PartOf::Numbered { actor, number } => {
                *number <= upto && (&actor.user, &actor.device) == (&by.user, &by.device)
            }
            _ => false,
        }
    }
}

/// Figures that one user keeps. Part of what apply decides.
const MAX_COUNTED: usize = 16;

/// How many messages were unread when the first part of an act that is still to come moved cursors; the newest at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct Counted(Vec<(PartOf, u64)>);

impl Counted {
    /// Whether there is nothing to remember.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The figure of the first part stands. Says whether this was the first.
    fn note(&mut self, of: PartOf, unread: u64) -> bool {
        if self.0.iter().any(|(known, _)| *known == of) {
            return false;
        }
        if self.0.len() >= MAX_COUNTED {
            self.0.remove(0);
        }
        self.0.push((of, unread));
        true
    }

    fn of(&self, of: &PartOf) -> Option<u64> {
        self.0.iter().find(|(known, _)| known == of).map(|(_, unread)| *unread)
    }
}

impl User {
    /// Moves read cursors forward for an act that is still to come, if that will be carried out; those of sessions the
    /// user is not in are passed over. Answers [`Answer::Done`], or what the act will be answered.
    pub fn read_part(&mut self, at: &At, of: &PartOf, cursors: &[ReadTo]) -> Outcome {
        if self.frozen {
            return frozen();
        }
        let (of, unread) = of.parted();
        if let Some(answer) = self.judge_part(at, &of) {
            return Outcome::answer(answer);
        }
        if let Some(unread) = unread {
            self.dirty.counted |= self.counted.note(of, unread);
        }
        let (mut outcome, version) = (Outcome::answer(Answer::Done), self.version);
        for to in cursors {
            if self.links.get(&to.session).is_some_and(|link| link.member && link.read_seq < to.seq) {
                let read = self.read(at, to);
                outcome.user_frames.extend(read.user_frames);
                outcome.errands |= read.errands;
            }
        }
        outcome.gate = outcome.errands.then(|| Gate::of_all(version, self.version));
        outcome
    }

    fn judge_part(&self, at: &At, of: &PartOf) -> Option<Answer> {
        let fingerprint = fingerprint(&UserAction::ReadAll);
        match of {
            PartOf::Numbered { actor, number } => self.judge_act(actor, *number, fingerprint).err(),
            // They were parted.
            PartOf::CountedNumber { .. } | PartOf::CountedKey { .. } => None,
            PartOf::Keyed(key) => match self.keys.find(key, fingerprint, at) {
                Known::Fresh => None,
                Known::Used(Ok((time_ms, value))) => {
                    Some(Answer::Own(SelfAck { number: 0, time_ms: *time_ms, value: *value }))
                }
                Known::Used(Err((code, detail))) => {
                    Some(Answer::Refused(ErrorBody::new(*code, code.remedy()).with_detail(*detail)))
                }
                Known::Refused(refusal) => Some(Answer::Refused(refusal)),
            },
        }
    }

    /// How many messages were unread before the first part of this act moved cursors, if there were parts.
    pub(super) fn counted_before(&self, of: &PartOf) -> Option<u64> {
        if self.counted.is_empty() { None } else { self.counted.of(of) }
    }

    /// This actor's number, or this key, is taken.
    pub(super) fn counts_no_more(&mut self, of: &PartOf) {
        if self.counted.is_empty() {
            return;
        }
        let before = self.counted.0.len();
        match of {
            PartOf::Numbered { actor, number } => {
                self.counted.0.retain(|(known, _)| !known.is_over(actor, *number));
            }
            of => self.counted.0.retain(|(known, _)| known != of),
        }
        self.dirty.counted |= self.counted.0.len() != before;
    }
}

#[cfg(test)]
mod tests {
    use rookery_wire::{ErrorCode, SessionId};

    use super::super::command::Link;
    use super::super::keyed::KeyedOwn;
    use super::super::own::{Given, UserAct};
    use super::super::own_tests::{act, pair, person};
    use super::super::tests::{actor, at, user};
    use super::*;

    fn all() -> [SessionId; 2] {
        [pair("ann", "bob"), pair("ann", "cid")]
    }

    fn to(session: usize, seq: u64) -> ReadTo {
        ReadTo { session: all()[session].clone(), seq, count: seq, burns: false }
    }

    fn ann() -> User {
        let mut ann = person("ann");
        for session in all() {
            ann.link(&Link { session, version: 1, member: true, joined_seq: 1, from: None }, 9);
        }
        ann
    }

    fn read(ann: &User) -> Vec<u64> {
        let of =
            |session| ann.sessions().find(|(known, _)| **known == session).map(|(_, link)| link.read_seq);
        all().into_iter().filter_map(of).collect()
    }

    fn whole(number: u64, cursors: Vec<ReadTo>) -> UserAct {
        UserAct { given: Given::Heads { cursors, unread: 9 }, ..act(number, UserAction::ReadAll) }
    }

    #[test]
    fn a_part_moves_nothing_unless_its_number_will_be_taken() {
        let mut ann = ann();
        let part = |number| PartOf::Numbered { actor: actor("ann"), number };
        let tried = |ann: &mut User, index: u64, number: u64| {
            let outcome = ann.read_part(&at(index), &part(number), &[to(0, index)]);
            (outcome.answer.expect("an answer"), read(ann))
        };
        assert_eq!(tried(&mut ann, 2, 1), (Answer::Done, vec![2, 0]));
        assert_eq!(tried(&mut ann, 3, 1), (Answer::Done, vec![3, 0]), "the number is still free");
        let (skips, unmoved) = tried(&mut ann, 9, 2);
        assert!(matches!(skips, Answer::Refused(error) if error.code == ErrorCode::ClientSeqGap));
        assert_eq!(unmoved, [3, 0]);
        let ack = ann.act(&at(4), &actor("ann"), &whole(1, vec![to(1, 4)])).answer;
        assert_eq!((tried(&mut ann, 10, 1), ack.is_some()), ((ack.expect("an ack"), vec![3, 4]), true));
        // The number went to something else; and the device is not registered any more.
        ann.act(&at(5), &actor("ann"), &act(2, UserAction::SetStrangers { refuse: true }));
        let (reused, unmoved) = tried(&mut ann, 11, 2);
        assert!(matches!(reused, Answer::Refused(error) if error.code == ErrorCode::ClientSeqReused));
        assert_eq!(unmoved, [3, 4]);
        let gone = PartOf::Numbered { actor: Actor { epoch: 7, ..actor("ann") }, number: 3 };
        let gone = ann.read_part(&at(12), &gone, &[to(0, 12)]).answer;
        assert!(matches!(gone, Some(Answer::Refused(error)) if error.code == ErrorCode::BadEpoch));
        assert_eq!(read(&ann), [3, 4]);
    }

    #[test]
    fn a_part_moves_nothing_unless_its_key_will_be_taken() {
        let mut ann = ann();
        let key = |name: &str| RequestKey::new(name).expect("a key");
        let part = |name: &str| PartOf::Keyed(key(name));
        assert_eq!(ann.read_part(&at(2), &part("k1"), &[to(0, 2)]).answer, Some(Answer::Done));
        let ack = ann.act_keyed(&at(3), &key("k1"), &KeyedOwn::Act(whole(0, vec![to(1, 3)]))).answer;
        assert!(matches!(ack, Some(Answer::Own(_))), "{ack:?}");
        assert_eq!(ann.read_part(&at(9), &part("k1"), &[to(0, 9)]).answer, ack);
        let other = act(0, UserAction::Block { user: user("eve") });
        ann.act_keyed(&at(4), &key("k2"), &KeyedOwn::Act(other));
        let reused = ann.read_part(&at(9), &part("k2"), &[to(0, 9)]).answer;
        assert!(matches!(reused, Some(Answer::Refused(error)) if error.code == ErrorCode::KeyReused));
        assert_eq!(read(&ann), [2, 3]);
    }

    /// What a gateway that dies between the parts and the act leaves behind is answered as it was counted first.
    #[test]
    fn who_repeats_what_was_read_in_part_is_told_what_was_unread_at_first() {
        use super::super::tests::Disk;
        let mut ann = ann();
        let counted = |number, unread| PartOf::CountedNumber { actor: actor("ann"), number, unread };
        assert_eq!(ann.read_part(&at(2), &counted(1, 700), &[to(0, 2)]).answer, Some(Answer::Done));
        // Whoever repeats it counts what is left, and parts of that go first too; a crash comes between.
        assert_eq!(ann.read_part(&at(3), &counted(1, 30), &[to(0, 3)]).answer, Some(Answer::Done));
        ann.reflect(3);
        let mut disk = Disk::default();
        disk.write(ann.collect());
        let mut ann = User::load(&disk, &user("ann")).expect("rows");
        let value = |answer: Option<Answer>| match answer {
            Some(Answer::Own(ack)) => ack.value,
            other => panic!("{other:?}"),
        };
        let rest = || whole(1, vec![to(1, 4)]);
        assert_eq!(value(ann.act(&at(4), &actor("ann"), &rest()).answer), 700);
        assert_eq!(value(ann.act(&at(5), &actor("ann"), &rest()).answer), 700, "the first answer again");
        assert_eq!(value(ann.read_part(&at(6), &counted(1, 5), &[to(0, 9)]).answer), 700);
        assert_eq!(read(&ann), [3, 4]);
        // It was that one's figure, and is gone with it.
        assert_eq!(value(ann.act(&at(7), &actor("ann"), &whole(2, vec![])).answer), 9);
        assert!(ann.counted.is_empty());
        ann.reflect(7);
        disk.write(ann.collect());
        assert!(User::load(&disk, &user("ann")).expect("rows").counted.is_empty());

        let key = RequestKey::new("k1").expect("a key");
        let part = PartOf::CountedKey { key: key.clone(), unread: 80 };
        assert_eq!(ann.read_part(&at(8), &part, &[to(0, 8)]).answer, Some(Answer::Done));
        let act = KeyedOwn::Act(whole(0, vec![to(1, 8)]));
        assert_eq!(value(ann.act_keyed(&at(9), &key, &act).answer), 80);
        assert_eq!(value(ann.act_keyed(&at(10), &key, &act).answer), 80);
        assert!(ann.counted.is_empty());
    }

    #[test]
    fn figures_of_what_never_comes_are_bounded_and_go_with_their_number() {
        let mut ann = ann();
        for n in 0..40 {
            let key = RequestKey::new(&format!("k{n}")).expect("a key");
            ann.read_part(&at(2 + n), &PartOf::CountedKey { key, unread: n }, &[to(0, 2 + n)]);
        }
        assert_eq!(ann.counted.0.len(), MAX_COUNTED);
        let oldest = PartOf::Keyed(RequestKey::new("k24").expect("a key"));
        assert_eq!(ann.counted_before(&oldest), Some(24));
        let part = PartOf::CountedNumber { actor: actor("ann"), number: 1, unread: 5 };
        ann.read_part(&at(50), &part, &[]);
        // The number goes to something else.
        ann.act(&at(51), &actor("ann"), &act(1, UserAction::SetStrangers { refuse: true }));
        let numbered = PartOf::Numbered { actor: actor("ann"), number: 1 };
        assert_eq!((ann.counted_before(&numbered), ann.counted.0.len()), (None, MAX_COUNTED - 1));
        // One that was refused leaves nothing.
        let late = PartOf::CountedNumber { actor: actor("ann"), number: 9, unread: 5 };
        ann.read_part(&at(52), &late, &[]);
        assert_eq!(ann.counted.0.len(), MAX_COUNTED - 1);
    }
}
