//! Reading everything when that is more than one command holds: the parts that go before the act that has the number.
//!
//! A part is judged as the act will be, and moves nothing unless that will be carried out: a repeat, a number that is refused,
//! a device that is registered no more, a key that was used. It takes no number and no key; whoever repeats it before the act
//! has taken them moves the cursors as far as they are then, which is still before the answer.

use bincode::{Decode, Encode};
use rookery_wire::codec::Source;
use rookery_wire::own::SelfAck;
use rookery_wire::{ErrorBody, RequestKey, UserAction};

use super::command::{Actor, ReadTo};
use super::keyed::Known;
use super::outcome::{Answer, Outcome};
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
}

impl User {
    /// Moves read cursors forward for an act that is still to come, if that will be carried out; those of sessions the
    /// user is not in are passed over. Answers [`Answer::Done`], or what the act will be answered.
    pub fn read_part(&mut self, at: &At, of: &PartOf, cursors: &[ReadTo]) -> Outcome {
        if self.frozen {
            return frozen();
        }
        if let Some(answer) = self.judge_part(at, of) {
            return Outcome::answer(answer);
        }
        let mut outcome = Outcome::answer(Answer::Done);
        for to in cursors {
            if self.links.get(&to.session).is_some_and(|link| link.member && link.read_seq < to.seq) {
                let read = self.read(at, to);
                outcome.user_frames.extend(read.user_frames);
                outcome.errands |= read.errands;
                outcome.gate = read.gate.or(outcome.gate);
            }
        }
        outcome
    }

    fn judge_part(&self, at: &At, of: &PartOf) -> Option<Answer> {
        let fingerprint = fingerprint(&UserAction::ReadAll);
        match of {
            PartOf::Numbered { actor, number } => self.judge_act(actor, *number, fingerprint).err(),
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
}
