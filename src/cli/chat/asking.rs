//! What is asked of the cluster for a person to look at: each question is one task, and its answer a line or a popup.

use rookery_client::wire::group::Group;
use rookery_client::wire::join::Outside;
use rookery_client::wire::live::Which;
use rookery_client::wire::own::{RelationFilter, ShowTo};
use rookery_client::wire::{GroupAction, GroupId, Join, Policy, SessionId, UserAction, UserId, Who};
use rookery_client::{Client, Verified};

use super::acts::Told;
use super::popup::{self, Popup};
use crate::cli::group_words::policy_words;
use crate::cli::people::show_word;

/// Lines asked for at once; more are said to be there.
const LINES: u32 = 200;
/// Devices asked for at once, which are all a user may have.
const DEVICES: u32 = 64;
/// Codes asked for at once, which are all a group may have.
const CODES: u32 = 32;

/// A question, or a change whose answer says more than that it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Receipts {
        session: SessionId,
        seq: u64,
    },
    Passing {
        session: SessionId,
        text: String,
    },
    Digest {
        session: SessionId,
    },
    Info {
        session: SessionId,
    },
    Roles {
        session: SessionId,
    },
    Rule {
        session: SessionId,
        rule: Rule,
    },
    Invite {
        session: SessionId,
        uses: u32,
        until_ms: u64,
    },
    Codes {
        session: SessionId,
    },
    Barred {
        session: SessionId,
    },
    Withdraw {
        group: GroupId,
        me: UserId,
    },
    Relations {
        which: RelationFilter,
    },
    Devices,
    /// Sets what is named, and says how it is then.
    Privacy {
        receipts: Option<ShowTo>,
        presence: Option<ShowTo>,
    },
}

/// One of the rules of a group; the others stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    Write(Who),
    Invite(Who),
    Change(Who),
    History(bool),
    Join(Join),
}

impl Rule {
    fn in_place(self, now: Policy) -> Policy {
        match self {
            Self::Write(write) => Policy { write, ..now },
            Self::Invite(invite) => Policy { invite, ..now },
            Self::Change(change) => Policy { change, ..now },
            Self::History(history_before_joining) => Policy { history_before_joining, ..now },
            Self::Join(join) => Policy { join, ..now },
        }
    }
}

/// What is shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Said(String),
    Shown(Popup),
}

/// Asks.
pub(super) async fn answer(client: &Client, ask: Ask) -> Told<Answer> {
    Ok(match ask {
        Ask::Receipts { session, seq } => {
            let read = client.receipts(&session, seq, Which::Read, None, LINES).await?;
            let unread = client.receipts(&session, seq, Which::Unread, None, LINES).await?;
            Answer::Shown(popup::receipts(seq, &read, &unread))
        }
        Ask::Passing { session, text } => {
            client.ephemeral(&session, "text/plain", text.into_bytes().into()).await?;
            Answer::Said("said to who is there; it is kept nowhere".to_owned())
        }
        Ask::Digest { session } => Answer::Said(proved(&client.verify(&session).await?)),
        Ask::Info { session } => {
            let kept = client.keeps_versions(&session).await?;
            Answer::Shown(popup::info(&client.group_info(&session).await?, kept))
        }
        Ask::Roles { session } => Answer::Shown(popup::roles(&client.roles(&session, None, LINES).await?)),
        Ask::Rule { session, rule } => {
            let Group { policy, .. } = client.group_info(&session).await?;
            let policy = rule.in_place(policy);
            client.manage(&session, GroupAction::SetPolicy(policy)).await?;
            Answer::Said(policy_words(policy))
        }
        Ask::Invite { session, uses, until_ms } => {
            let (code, ack) = client.make_code(&session, until_ms, uses).await?;
            Answer::Shown(popup::code(&session, &code, ack.seq, uses, until_ms))
        }
        Ask::Codes { session } => Answer::Shown(popup::codes(&client.codes(&session, 0, CODES).await?)),
        Ask::Barred { session } => {
            let page = client.requests(&session, Outside::Barred, None, LINES).await?;
            Answer::Shown(popup::barred(&page))
        }
        Ask::Withdraw { group, me } => {
            let words = format!("#{group} is asked no more");
            client.answer_request(&SessionId::group(group), me, false).await?;
            Answer::Said(words)
        }
        Ask::Relations { which } => {
            Answer::Shown(popup::relations(&client.relations(which, None, LINES).await?))
        }
        Ask::Devices => Answer::Shown(popup::devices(&client.devices(None, DEVICES).await?)),
        Ask::Privacy { receipts, presence } => Answer::Said(privacy(client, receipts, presence).await?),
    })
}

/// Sets what is named, leaves the rest as it is, and says how it is then.
async fn privacy(client: &Client, receipts: Option<ShowTo>, presence: Option<ShowTo>) -> Told<String> {
    let page = client.relations(RelationFilter::All, None, 1).await?;
    let sets = receipts.is_some() || presence.is_some();
    let (receipts, presence) = (receipts.unwrap_or(page.receipts), presence.unwrap_or(page.presence));
    if sets {
        client.manage_self(UserAction::SetPrivacy { receipts, presence }).await?;
    }
    let strangers = if page.refuses_strangers { "may not" } else { "may" };
    Ok(format!(
        "how far you read is shown to {}, that you are there to {}; strangers {strangers} write first",
        show_word(receipts),
        show_word(presence)
    ))
}

fn proved(verified: &Verified) -> String {
    let (from, to) = (verified.from_seq, verified.proof.seq);
    match verified.differs {
        None if from > to => format!("messages to {to} are still those of the cluster: {}", verified.cluster),
        None => format!("messages {from} to {to} are those of the cluster: {}", verified.cluster),
        Some((first, last)) => {
            format!("the history DIFFERS from what the cluster holds, first among {first} to {last}")
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use rookery_client::Proof;
    use rookery_client::wire::Digest;

    use super::*;

    #[test]
    fn one_rule_is_set_and_the_others_stay() {
        let now = Policy { write: Who::Admins, history_before_joining: false, ..Policy::default() };
        let then = Rule::Join(Join::Open).in_place(now);
        assert_eq!(then, Policy { join: Join::Open, ..now });
        assert_eq!(Rule::Write(Who::All).in_place(then), Policy { write: Who::All, join: Join::Open, ..now });
        assert_eq!(Rule::History(true).in_place(now), Policy { history_before_joining: true, ..now });
    }

    #[test]
    fn a_difference_is_not_said_to_be_none() {
        let digest = Digest([7; 32]);
        let found = |from_seq, differs| {
            let proof = Proof { seq: 9, digest };
            proved(&Verified { from_seq, proof, cluster: digest, differs })
        };
        assert!(found(1, None).starts_with("messages 1 to 9 are those of the cluster: 0707"));
        assert!(found(10, None).starts_with("messages to 9 are still"));
        assert!(found(1, Some((3, 5))).contains("DIFFERS") && found(1, Some((3, 5))).contains("3 to 5"));
    }
}
