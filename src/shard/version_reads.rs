//! The versions of a message: what memory knows of them, and for the rest the rows.
//!
//! Rows of versions and of the message are not written at one instant, and an edit or a recall may come between a look at
//! memory and one at rows. So memory is looked at again behind the rows, and if anything of the message has changed all is
//! read anew: what is answered was so at one instant.

use rookery_wire::versions::{ListVersions, MAX_VERSIONS, VersionsPage};
use rookery_wire::{ErrorBody, UserId};

use super::api::{ReadRefusal, ReadReply};
use super::reads::{MAX_PAGE_BYTES, Reads, may_read, unreadable};
use super::rows::{query_in_use, replaced};
use crate::state::RowFault;
use crate::state::versions::{Listed, Remembered};

/// How often a message may change while it is read, before the asker is sent to ask again.
const TRIES: usize = 8;

impl Reads {
    pub(super) async fn versions(
        &self,
        user: Option<UserId>,
        list: ListVersions,
    ) -> Result<ReadReply, ReadRefusal> {
        let (mut said, mut remembered) = self.remembered(user.clone(), &list).await?;
        for _ in 0..TRIES {
            let Some(before) = remembered else { return Ok(reply(list, said, Listed::default())) };
            let (before, listed) = self.listed(before, &list).await?;
            let later;
            (said, later) = self.remembered(user.clone(), &list).await?;
            let listed = match &later {
                Some(later) if before.is_still(later) => listed,
                _ => {
                    remembered = later;
                    continue;
                }
            };
            let listed = listed.map_err(ReadRefusal::Refused)?;
            if let Some(number) = listed.missing {
                let (seq, session) = (list.seq, &list.session);
                let text = format!("version {number} of message {seq} of {session} is not in its rows");
                return Err(unreadable(RowFault::Store(text)));
            }
            return Ok(reply(list, said, listed));
        }
        Err(ReadRefusal::Again { leader: None })
    }

    /// What memory knows, and whether versions are kept, as far as that was said. Nothing of the message 0.
    async fn remembered(
        &self,
        user: Option<UserId>,
        list: &ListVersions,
    ) -> Result<(Option<bool>, Option<Remembered>), ReadRefusal> {
        let seq = list.seq;
        let look = self.look(&list.session, move |state| {
            may_read(state, user.as_ref())?;
            let known = if seq == 0 { None } else { Some(state.versions_of(user.as_ref(), seq)?) };
            Ok::<_, ErrorBody>((state.keeps_versions(), known))
        });
        look.await?.map_err(ReadRefusal::Refused)
    }

    async fn listed(
        &self,
        known: Remembered,
        list: &ListVersions,
    ) -> Result<(Remembered, Result<Listed, ErrorBody>), ReadRefusal> {
        let ListVersions { session, before, limit, .. } = list.clone();
        let most = limit.clamp(1, MAX_VERSIONS + 1) as usize;
        // A checkpoint writes between no two of these rows.
        let _one_index = self.shared.rows_lock.read().await;
        let read = query_in_use(&self.shared, move |rows| {
            let listed = known.list(rows, &session, before, most, MAX_PAGE_BYTES as usize)?;
            Ok((known, listed))
        });
        read.await.and_then(|found| found.ok_or_else(replaced)).map_err(unreadable)
    }
}

fn reply(list: ListVersions, said: Option<bool>, listed: Listed) -> ReadReply {
    let ListVersions { session, seq, .. } = list;
    let page =
        VersionsPage { session, seq, versions: listed.lines, more: listed.more, kept: said.unwrap_or(false) };
    ReadReply::Versions { page, said }
}
