//! Who of a direct session takes nothing that the other writes.
//!
//! A block is decided by the blocking user and carried here by an errand with its version; the user hears that it is in
//! force only once this entity has applied it. So every replica refuses alike from that entry on (G8). The system itself,
//! a service under a request key and in nobody's name, is barred by nobody: what it has to say is the business's.

use std::collections::BTreeMap;

use rookery_wire::{ErrorBody, ErrorCode, UserId};

use super::command::{Act, Actor};
use super::outcome::{Answer, Outcome};
use super::session::Session;
use crate::plant::planted;

/// By user: the version of the errand that said so, and whether the other is barred.
pub(super) type Bars = BTreeMap<UserId, (u64, bool)>;

impl Session {
    /// An errand arrives: `by` takes nothing, or takes it again. It needs no session to be there, and takes no seq.
    pub fn bar(&mut self, by: &UserId, version: u64, on: bool) -> Outcome {
        let known = self.bars.get(by).map_or(0, |(version, _)| *version);
        if self.id.pair_has(by) == Some(true) && version > known {
            self.bars.insert(by.clone(), (version, on));
        }
        Outcome::answer(Answer::Done)
    }

    /// What a barred user may not do: write, change what it has written, and say what is kept. It may take back.
    pub(super) fn let_through(&self, actor: &Actor, act: &Act) -> Result<(), ErrorBody> {
        let barred = !actor.is_system() && self.bars.iter().any(|(by, (_, on))| by != actor.name() && *on);
        match act {
            Act::Send { .. } | Act::Edit { .. } | Act::Manage { .. }
                if barred && !planted("block-ignored") =>
            {
                Err(ErrorBody::new(ErrorCode::RefusedByPeer, ErrorCode::RefusedByPeer.remedy()))
            }
            _ => Ok(()),
        }
    }
}
