//! Cold records: pages of consecutive records read from the rows, kept for a while, loaded once however many ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use moka::future::Cache;
use rookery_wire::SessionId;

use super::rows;
use super::shared::Shared;
use crate::state::records;
use crate::state::{RowFault, RowReader};

/// Records in a page: seqs `64 k + 1 ..= 64 k + 64`.
const PAGE: u64 = 64;

/// A page that nobody asks for leaves memory after this time, whatever room there is: one that was read while its
/// messages were being recalled must not stay.
const IDLE: Duration = Duration::from_secs(60);

/// A page: of a session as its rows were at a revision ([`crate::state::Session::rows_revision`]), and which.
pub type PageKey = (SessionId, u64, u64);

/// The page that holds `seq`.
pub fn page_of(session: &SessionId, revision: u64, seq: u64) -> PageKey {
    (session.clone(), revision, seq.saturating_sub(1) / PAGE)
}

/// Records of one page, and the seq of the first of them: those before it are trimmed.
pub struct Page {
    first: u64,
    records: Vec<Bytes>,
}

/// A bounded cache of whole pages. Only pages that lie entirely in rows are kept. Records in rows change when messages
/// are recalled or edited: then the session has another revision, whose pages are others.
#[derive(Clone)]
pub struct Pages {
    cache: Cache<PageKey, Arc<Page>>,
    counters: Arc<Counters>,
}

/// Since the shard was opened.
#[derive(Default)]
struct Counters {
    asked: AtomicU64,
    loaded: AtomicU64,
}

impl Pages {
    /// A cache of at most `bytes` of records.
    pub fn new(bytes: u64) -> Self {
        Self::for_a_while(bytes, IDLE)
    }

    fn for_a_while(bytes: u64, idle: Duration) -> Self {
        let weigh = |_: &PageKey, page: &Arc<Page>| {
            u32::try_from(page.records.iter().map(|record| record.len() + 64).sum::<usize>())
                .unwrap_or(u32::MAX)
        };
        let cache = Cache::builder().max_capacity(bytes).weigher(weigh).time_to_idle(idle).build();
        Self { cache, counters: Arc::default() }
    }

    /// Lets go of pages that nobody has asked for in a while: the cache looks at its clock when it is used, and by itself never.
    pub async fn let_go(&self) {
        self.cache.run_pending_tasks().await;
    }

    /// Pages asked for, and pages read from disk for that, since the shard was opened.
    pub fn counts(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.counters.asked), read(&self.counters.loaded))
    }

    /// Lets go of pages.
    pub async fn forget(&self, pages: &[PageKey]) {
        for page in pages {
            self.cache.invalidate(page).await;
        }
    }

    /// The records `from..=to` of a session, all of which are rows of this revision or a newer one. Empty when
    /// `from > to`.
    ///
    /// # Errors
    /// [`RowFault`], also when a record is missing: a slice is whole or not given.
    pub async fn range(
        &self,
        shared: &Shared,
        session: &SessionId,
        revision: u64,
        from: u64,
        to: u64,
    ) -> Result<Vec<Bytes>, RowFault> {
        let mut records = Vec::new();
        let mut next = from.max(1);
        while next <= to {
            let number = (next - 1) / PAGE;
            let page = self.page(shared, (session.clone(), revision, number)).await?;
            let first = number * PAGE + 1;
            let upto = to.min(first + PAGE - 1);
            for seq in next..=upto {
                let at = seq.checked_sub(page.first);
                let record = at.and_then(|at| page.records.get(at as usize));
                records.push(record.cloned().ok_or_else(|| missing(session, seq))?);
            }
            next = upto + 1;
        }
        Ok(records)
    }

    async fn page(&self, shared: &Shared, key: PageKey) -> Result<Arc<Page>, RowFault> {
        self.counters.asked.fetch_add(1, Ordering::Relaxed);
        let load = async {
            self.counters.loaded.fetch_add(1, Ordering::Relaxed);
            let (session, _, number) = key.clone();
            let first = number * PAGE + 1;
            let read = move |rows: &dyn RowReader| records::read_page(rows, &session, first, PAGE);
            let found = rows::query_in_use(shared, read).await?;
            found.map(|(first, records)| Arc::new(Page { first, records })).ok_or_else(rows::replaced)
        };
        let page = self.cache.try_get_with(key.clone(), load).await;
        let page = page.map_err(|fault: Arc<RowFault>| match &*fault {
            RowFault::Busy => RowFault::Busy,
            other => RowFault::Store(other.to_string()),
        })?;
        if page.first + (page.records.len() as u64) < (key.2 + 1) * PAGE + 1 {
            // Its end was not written yet: good for this answer, stale for the next.
            self.cache.invalidate(&key).await;
        }
        Ok(page)
    }
}

fn missing(session: &SessionId, seq: u64) -> RowFault {
    RowFault::Store(format!("record {seq} of {session} is not in its rows"))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use rookery_wire::GroupId;

    use super::*;

    #[tokio::test]
    async fn a_page_that_nobody_asks_for_leaves_memory() {
        let pages = Pages::for_a_while(1 << 20, Duration::from_millis(20));
        let record = Bytes::from(vec![7; 100]);
        let page = Page { first: 1, records: vec![record.clone()] };
        let session = SessionId::group(GroupId::new("g").unwrap());
        pages.cache.insert(page_of(&session, 0, 1), Arc::new(page)).await;
        let until = Instant::now() + Duration::from_secs(10);
        while !record.is_unique() {
            assert!(Instant::now() < until, "it is still there");
            pages.let_go().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
