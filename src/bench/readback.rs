//! Reads back every session and counts: what was acknowledged must be there.

use anyhow::bail;
use rookery_wire::reply::Page;
use rookery_wire::request::{Consistency, Direction, Pull};
use rookery_wire::{Kind, SessionId};

use super::connect::ask;
use crate::check::link::{Link, body};

/// Records and bytes asked for in one page.
const PAGE: (u32, u32) = (1_000, 768 << 10);

/// What a session holds.
pub(super) struct Held {
    /// Messages.
    pub(super) countable: u64,
    /// Messages and signals; as many as its last seq says, or reading it was an error.
    pub(super) records: u64,
}

/// Counts the records of a session, read as fresh as is said, through the connection of a service.
///
/// # Errors
/// A page that is not contiguous, or a request that failed.
pub(super) async fn count(
    link: &mut Link,
    session: &SessionId,
    consistency: Consistency,
) -> anyhow::Result<Held> {
    let (mut next, mut countable) = (1, 0);
    loop {
        let pull = Pull {
            session: session.clone(),
            from_seq: next,
            direction: Direction::Forward,
            max_count: PAGE.0,
            max_bytes: PAGE.1,
            consistency,
        };
        let page: Page = body(&ask(link, Kind::Pull, &pull).await?)?;
        for record in &page.records {
            if record.seq != next {
                bail!("{session}: seq {} was read where {next} was due", record.seq);
            }
            next += 1;
            countable += u64::from(record.kind.is_countable());
        }
        if page.records.is_empty() || next > page.last_seq {
            return Ok(Held { countable, records: next - 1 });
        }
    }
}
