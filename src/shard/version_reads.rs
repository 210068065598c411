//! The versions of a message: what memory knows of them, and for the rest the rows.
//!
//! Rows of versions and of the message are not written at one instant, and an edit, a recall or a checkpoint may come between a
//! look at memory and one at rows. So memory is looked at again behind the rows, and if anything of the message has changed all
//! is read anew. If nothing has, what memory knew at first stood all the time, and goes before what rows say, which is the same
//! whichever checkpoint they are from: what is answered was so at one instant. That is why no lock is held here, neither while
//! this waits for its turn among those who read nor after.

use std::sync::atomic::Ordering;

use rookery_wire::versions::{ListVersions, MAX_VERSIONS, VersionsPage};
use rookery_wire::{ErrorBody, ErrorCode, UserId};

use super::api::{ReadRefusal, ReadReply};
use super::reads::{MAX_PAGE_BYTES, Reads, may_read, unreadable};
use super::rows::{query_in_use, replaced};
use crate::state::RowFault;
use crate::state::versions::{Listed, Remembered};

/// How often a message may change while it is read, before the asker is sent to ask again.
pub(super) const TRIES: usize = 8;

/// How far a try has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Memory was looked at.
    Remembered,
    /// Rows were read.
    Listed,
}

impl Reads {
    pub(super) async fn versions(
        &self,
        user: Option<UserId>,
        list: ListVersions,
    ) -> Result<ReadReply, ReadRefusal> {
        self.versions_by_steps(user, list, |_| std::future::ready(())).await
    }

    /// The same, and waits behind each step for what `then` does.
    pub(super) async fn versions_by_steps<F: Future<Output = ()>>(
        &self,
        user: Option<UserId>,
        list: ListVersions,
        mut then: impl FnMut(Step) -> F,
    ) -> Result<ReadReply, ReadRefusal> {
        let (mut said, mut remembered) = self.remembered(user.clone(), &list).await?;
        for _ in 0..TRIES {
            let Some(before) = remembered else { return Ok(reply(list, said, Listed::default())) };
            then(Step::Remembered).await;
            let (before, listed) = self.listed(before, &list).await?;
            then(Step::Listed).await;
            let later;
            (said, later) = self.remembered(user.clone(), &list).await?;
            if !later.as_ref().is_some_and(|later| before.is_still(later)) {
                remembered = later;
                continue;
            }
            let listed = listed.map_err(ReadRefusal::Refused)?;
            self.note_lost(&list, &listed)?;
            return Ok(reply(list, said, listed));
        }
        Err(ReadRefusal::Again { leader: None })
    }

    /// What rows should have and have not is a fault of this replica. A message is not answered for then; of a version its
    /// line says so, and the rest is of use.
    fn note_lost(&self, list: &ListVersions, listed: &Listed) -> Result<(), ReadRefusal> {
        let ListVersions { session, seq, .. } = list;
        if listed.absent {
            let text = format!("message {seq} of {session} is not in its rows");
            return Err(unreadable(RowFault::Store(text)));
        }
        if !listed.lost.is_empty() {
            let lost = listed.lost.len() as u64;
            self.shared.versions_lost.fetch_add(lost, Ordering::Relaxed);
            tracing::error!(%session, seq, versions = ?listed.lost, "versions of a message are not in its rows");
        }
        Ok(())
    }

    /// What memory knows, and whether versions are kept, as far as that was said. Nothing of the message 0.
    async fn remembered(
        &self,
        user: Option<UserId>,
        list: &ListVersions,
    ) -> Result<(Option<bool>, Option<Remembered>), ReadRefusal> {
        let (seq, now_ms) = (list.seq, self.shared.sure_ms());
        let look = self.look(&list.session, move |state| {
            may_read(state, user.as_ref())?;
            if !state.overdue(seq..=seq, now_ms).is_empty() {
                let text = format!("{} has no content at {seq}", state.id());
                return Err(ErrorBody::new(ErrorCode::NoSuchMessage, text));
            }
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
