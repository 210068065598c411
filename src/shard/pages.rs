//! Cold records: pages of consecutive records read from the rows, kept for a while, loaded once however many ask.

use std::sync::Arc;

use bytes::Bytes;
use moka::future::Cache;
use rookery_wire::SessionId;

use super::rows;
use super::shared::Shared;
use crate::state::records;
use crate::state::{RowFault, RowReader};

/// Records in a page: seqs `64 k + 1 ..= 64 k + 64`.
const PAGE: u64 = 64;

/// A bounded cache of whole pages. Only pages that lie entirely in rows are kept, and records in rows do not change,
/// so a page is never stale; a shard that was reset by a snapshot has the same records.
#[derive(Clone)]
pub struct Pages(Cache<(SessionId, u64), Arc<Vec<Bytes>>>);

impl Pages {
    /// A cache of at most `bytes` of records.
    pub fn new(bytes: u64) -> Self {
        let weigh = |_: &(SessionId, u64), page: &Arc<Vec<Bytes>>| {
            u32::try_from(page.iter().map(|record| record.len() + 64).sum::<usize>()).unwrap_or(u32::MAX)
        };
        Self(Cache::builder().max_capacity(bytes).weigher(weigh).build())
    }

    /// The records `from..=to` of a session, all of which are rows. Empty when `from > to`.
    ///
    /// # Errors
    /// [`RowFault`], also when a record is missing: a slice is whole or not given.
    pub async fn range(
        &self,
        shared: &Shared,
        session: &SessionId,
        from: u64,
        to: u64,
    ) -> Result<Vec<Bytes>, RowFault> {
        let mut records = Vec::new();
        let mut next = from.max(1);
        while next <= to {
            let number = (next - 1) / PAGE;
            let page = self.page(shared, session, number).await?;
            let first = number * PAGE + 1;
            let upto = to.min(first + PAGE - 1);
            for seq in next..=upto {
                let record = page.get((seq - first) as usize);
                records.push(record.cloned().ok_or_else(|| missing(session, seq))?);
            }
            next = upto + 1;
        }
        Ok(records)
    }

    async fn page(
        &self,
        shared: &Shared,
        session: &SessionId,
        number: u64,
    ) -> Result<Arc<Vec<Bytes>>, RowFault> {
        let key = (session.clone(), number);
        let load = async {
            let session = session.clone();
            let first = number * PAGE + 1;
            let read = move |rows: &dyn RowReader| records::read(rows, &session, first, PAGE as usize);
            let records = rows::query_in_use(shared, read).await?;
            records.map(Arc::new).ok_or_else(rows::replaced)
        };
        let page = self.0.try_get_with(key.clone(), load).await;
        let page = page.map_err(|fault: Arc<RowFault>| match &*fault {
            RowFault::Busy => RowFault::Busy,
            other => RowFault::Store(other.to_string()),
        })?;
        if (page.len() as u64) < PAGE {
            // Its end was not written yet: good for this answer, stale for the next.
            self.0.invalidate(&key).await;
        }
        Ok(page)
    }
}

fn missing(session: &SessionId, seq: u64) -> RowFault {
    RowFault::Store(format!("record {seq} of {session} is not in its rows"))
}
