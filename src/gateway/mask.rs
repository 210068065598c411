//! What a user has cleared and deleted for itself is not in the pages it pulls.
//!
//! A page stays without a gap: in the place of a deleted message stands what is left of one, [`RecordKind::DELETED`].
//! Signals in a deleted range stay as they are: they have no content to hide, devices need them to know who is a member and
//! what was taken back, and the digest of the session has their kind.

use rookery_wire::own::Settings;
use rookery_wire::record::Preview;
use rookery_wire::reply::Page;
use rookery_wire::{Blob, ContentHash, Record, RecordKind};

/// Whether there is anything that is not to be seen.
pub(super) fn masks(settings: &Settings) -> bool {
    settings.cleared_seq > 0 || !settings.deleted.is_empty()
}

/// Whether this message is not to be seen.
pub(super) fn is_hidden(settings: &Settings, seq: u64) -> bool {
    seq <= settings.cleared_seq || is_deleted(settings, seq)
}

fn is_deleted(settings: &Settings, seq: u64) -> bool {
    let before = settings.deleted.partition_point(|(from, _)| *from <= seq);
    before.checked_sub(1).and_then(|at| settings.deleted.get(at)).is_some_and(|(_, to)| seq <= *to)
}

/// The first seq there is for the user.
pub(super) fn first_seq(settings: &Settings, first_seq: u64) -> u64 {
    first_seq.max(settings.cleared_seq.saturating_add(1))
}

/// A page as the user may see it.
pub(super) fn page(settings: &Settings, page: Page) -> Page {
    let kept = page.records.into_iter().filter(|record| record.seq > settings.cleared_seq);
    let hides = |record: &Record| is_message(record.kind) && is_deleted(settings, record.seq);
    let records = kept.map(|record| if hides(&record) { left_of(record) } else { record });
    Page {
        first_seq: first_seq(settings, page.first_seq),
        records: records.collect(),
        session: page.session,
        last_seq: page.last_seq,
    }
}

/// The last message of a session in a list.
pub(super) fn preview(settings: &Settings, last: Option<Preview>) -> Option<Preview> {
    last.filter(|last| !is_hidden(settings, last.seq))
}

/// Whether it is content, or was before it went.
fn is_message(kind: RecordKind) -> bool {
    matches!(kind, RecordKind::CONTENT | RecordKind::RECALLED | RecordKind::EXPIRED)
}

fn left_of(record: Record) -> Record {
    Record {
        kind: RecordKind::DELETED,
        content_type: Blob::default(),
        content: Blob::default(),
        // So that the digest of what the user may see is that of the session.
        extensions: vec![ContentHash::of(&record).extension()],
        ..record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_their_ends() {
        let settings = Settings { cleared_seq: 2, deleted: vec![(4, 4), (7, 9)], ..Settings::default() };
        let hidden: Vec<u64> = (1..12).filter(|seq| is_hidden(&settings, *seq)).collect();
        assert_eq!(hidden, [1, 2, 4, 7, 8, 9]);
        assert_eq!((first_seq(&settings, 1), first_seq(&settings, 5)), (3, 5));
        assert!(masks(&settings) && !masks(&Settings::default()));
    }
}
