//! Pages: each is a contiguous slice of the log, from where it was asked for, as fresh as it was asked to be
//! (rule 5).

use super::book::{Book, Log};
use super::verdict::{Harm, Rule, Verdict};
use crate::check::history::{Fresh, Page};

pub(super) fn judge(book: &Book<'_>, verdict: &mut Verdict) {
    for page in &book.history.pages {
        let Some(log) = book.log(page.session) else { continue };
        if let Some((harm, fault)) = fault(page, log) {
            verdict.add(Rule::Pages, harm, || {
                let (name, who) =
                    (book.history.session_text(page.session), book.history.device_text(page.device));
                let way = if page.backward { "backward" } else { "forward" };
                format!("{name}: page pulled {way} from seq {} by {who}: {fault}", page.from)
            });
        }
    }
}

fn fault(page: &Page, log: &Log<'_>) -> Option<(Harm, String)> {
    if page.last_seq > log.last() {
        let (said, is) = (page.last_seq, log.last());
        return Some((Harm::Lost, format!("it said last seq {said}, the log ends at {is}")));
    }
    if let Fresh::AtLeast(seq) = page.fresh
        && page.last_seq < seq
    {
        return Some((Harm::Wrong, format!("asked for at least seq {seq}, it knew {}", page.last_seq)));
    }
    let mut steps = page.records.windows(2);
    if let Some([(a, _), (b, _)]) = steps.find(|pair| matches!(pair, [(a, _), (b, _)] if *b != a + 1)) {
        let harm = match b.cmp(a) {
            std::cmp::Ordering::Greater => Harm::Lost,
            std::cmp::Ordering::Equal => Harm::Doubled,
            std::cmp::Ordering::Less => Harm::Reordered,
        };
        return Some((harm, format!("seq {b} follows seq {a}")));
    }
    if let Some((seq, _)) = page.records.iter().find(|(seq, print)| log.version(*seq, *print).is_none()) {
        return Some((Harm::Wrong, format!("seq {seq} is not what the log holds there, nor ever held")));
    }
    edges(page)
}

/// A page begins (backward: ends) where it was asked to, and holds something if there is something.
fn edges(page: &Page) -> Option<(Harm, String)> {
    let (Some((first, _)), Some((last, _))) = (page.records.first(), page.records.last()) else {
        let oldest = page.from.max(page.first_seq);
        let newest = if page.from == 0 { page.last_seq } else { page.from.min(page.last_seq) };
        let wanted = match page.backward {
            true => (newest + 1).saturating_sub(page.first_seq),
            false => (page.last_seq + 1).saturating_sub(oldest),
        };
        return (wanted > 0).then(|| (Harm::Lost, format!("it is empty, yet last seq is {}", page.last_seq)));
    };
    if *last > page.last_seq {
        return Some((Harm::Wrong, format!("it holds seq {last} beyond its last seq {}", page.last_seq)));
    }
    let newest = if page.from == 0 { page.last_seq } else { page.from.min(page.last_seq) };
    let oldest = page.from.max(page.first_seq);
    match page.backward {
        true if *last != newest => Some((Harm::Lost, format!("it ends at seq {last}, not {newest}"))),
        false if *first != oldest => Some((Harm::Lost, format!("it begins at seq {first}, not {oldest}"))),
        _ if page.records.len() as u64 > u64::from(page.max) => {
            Some((Harm::Wrong, format!("{} records, {} were asked for", page.records.len(), page.max)))
        }
        _ => None,
    }
}
