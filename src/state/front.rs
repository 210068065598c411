//! Decoding the commands of an entry one after another.
//!
//! What a device does in a session begins, encoded, with the same bytes each time: who acts, and where. Under load they come in
//! rows, so these bytes are decoded once for each row, and compared for the rest of it: the names in them, checked one by one,
//! are half of what a command takes to decode.

use bytes::Bytes;
use rookery_wire::SessionId;
use rookery_wire::codec::{DecodeFault, decode, decode_prefix};

use super::command::{Actor, Command};

/// How a [`Command::Act`] begins: the first of its kinds.
const ACT: u8 = 0;

/// The front of the act that was decoded last.
#[derive(Debug, Default)]
pub(super) struct Front {
    bytes: Bytes,
    of: Option<(Actor, SessionId)>,
}

impl Front {
    /// Reads a command, as [`Command::decode`] does.
    ///
    /// # Errors
    /// [`DecodeFault`]: an unknown kind or damaged bytes.
    pub(super) fn decode(&mut self, command: &Bytes) -> Result<Command, DecodeFault> {
        if command.first() != Some(&ACT) {
            return Command::decode(command);
        }
        let same = self.of.as_ref().filter(|_| command.starts_with(&self.bytes)).cloned();
        let (actor, session) = match same {
            Some(same) => same,
            None => {
                let ((_, actor, session), front): ((u8, _, _), _) = decode_prefix(command)?;
                self.bytes = command.slice(..front);
                self.of.insert((actor, session)).clone()
            }
        };
        let (client_seq, act) = decode(&command.slice(self.bytes.len()..))?;
        Ok(Command::Act { actor, session, client_seq, act })
    }
}

#[cfg(test)]
mod tests {
    use rookery_wire::{Blob, DeviceId, GroupId, UserId};

    use super::*;
    use crate::state::Act;

    fn act(user: &str, epoch: u32, session: &str, client_seq: u64) -> Command {
        let actor = Actor {
            user: UserId::new(user).unwrap(),
            device: DeviceId::new("phone").unwrap(),
            epoch,
            on_behalf_of: None,
            service: false,
        };
        let session = SessionId::group(GroupId::new(session).unwrap());
        let content = Blob::from("hi");
        let act = Act::Send { content_type: Blob::default(), content, extensions: Vec::new() };
        Command::Act { actor, session, client_seq, act }
    }

    #[test]
    fn commands_are_what_they_are_alone_whatever_was_before_them() {
        let session = SessionId::group(GroupId::new("team").unwrap());
        let commands = [
            act("ann", 1, "team", 1),
            act("ann", 1, "team", 300),
            act("ann", 1, "teams", 2),
            act("ann", 2, "teams", 3),
            Command::Expire { session, seqs: vec![7] },
            act("ann", 2, "teams", 4),
            act("anna", 2, "teams", u64::MAX),
            act("ann", 2, "teams", 5),
        ];
        let encoded = commands.each_ref().map(Command::encode);
        let mut front = Front::default();
        for (command, bytes) in commands.iter().zip(&encoded) {
            assert_eq!(&front.decode(bytes).unwrap(), command);
            assert_eq!(&Command::decode(bytes).unwrap(), command);
        }
        // The same of damaged ones, the front of which may be known.
        for bytes in &encoded {
            front.decode(bytes).unwrap();
            for cut in 0..bytes.len() {
                assert!(front.decode(&bytes.slice(..cut)).is_err(), "{cut} bytes");
            }
            assert!(front.decode(&[&bytes[..], &[0]].concat().into()).is_err());
        }
    }
}
