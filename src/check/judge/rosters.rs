//! Members at the end (G5): what LIST_MEMBERS says through every node is what the log makes of them.

use std::collections::BTreeSet;

use super::book::Book;
use super::verdict::{Harm, Rule, Verdict};
use crate::check::history::UserIx;

pub(super) fn judge(book: &Book<'_>, verdict: &mut Verdict) {
    for roster in &book.history.rosters {
        let Some(log) = book.log(roster.session) else { continue };
        let after = log.last() + 1;
        let inside = log.spans.keys().copied().filter(|user| log.span_at(*user, after).is_some());
        let members: BTreeSet<UserIx> = inside.collect();
        let listed: BTreeSet<UserIx> = roster.users.iter().copied().collect();
        if members == listed && roster.total as usize == members.len() && roster.users.len() == listed.len() {
            continue;
        }
        let harm = if members.is_subset(&listed) { Harm::Wrong } else { Harm::Lost };
        verdict.add(Rule::Membership, harm, || {
            let names = |users: &BTreeSet<UserIx>| {
                users.iter().map(|user| book.history.user_text(*user)).collect::<Vec<_>>().join(", ")
            };
            let (name, node, total) = (book.history.session_text(roster.session), roster.node, roster.total);
            let (listed, members) = (names(&listed), names(&members));
            format!("{name}: node {node} lists {total} members ({listed}), the log has {members}")
        });
    }
}
