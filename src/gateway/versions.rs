//! LIST_VERSIONS: what a message said before it was edited, for who may pull it.

use std::sync::Arc;

use rookery_wire::request::Consistency;
use rookery_wire::versions::{ListVersions, VersionsPage};
use rookery_wire::{ErrorCode, Kind};

use super::check::{is_theirs, refuse};
use super::connection::Connection;
use super::mask;
use super::own::fit;
use super::reads::{exceptions, turn, unexpected};
use crate::config::Limits;
use crate::shard::{Freshness, Read, ReadReply};
use crate::state::{EntityKey, VersionBounds};

/// What an EDIT that this node takes carries along.
pub(super) fn bounds(limits: &Limits) -> VersionBounds {
    VersionBounds { most: limits.versions_per_message, kept: limits.keep_versions }
}

/// LIST_VERSIONS. As a PULL it is answered as of an instant after it began, and knows what the user has cleared and
/// deleted.
pub(super) async fn list(
    connection: Arc<Connection>,
    request: u32,
    list: ListVersions,
) -> Result<(), rookery_wire::ErrorBody> {
    let user = (!connection.identity.service).then(|| connection.user().clone());
    if let Some(user) = &user {
        is_theirs(&list.session, user)?;
    }
    let _turn = turn(&connection).await?;
    let router = &connection.core.router;
    let shard = router.shard_of(&EntityKey::Session(list.session.clone()));
    let of_user = user.is_some();
    let read = Read::Versions { user, list: list.clone() };
    let (found, settings) = tokio::join!(
        router.read(shard, read, Freshness::Linearizable),
        exceptions(&connection, &list.session, Consistency::Linearizable, of_user)
    );
    let (mut page, said) = match found? {
        ReadReply::Versions { page, said } => (page, said),
        other => return Err(unexpected(&other)),
    };
    if list.seq > 0 && mask::is_hidden(&settings?, list.seq) {
        let text = format!("{} has no content at {}", list.session, list.seq);
        return refuse(ErrorCode::NoSuchMessage, text);
    }
    let bounds = bounds(&connection.core.options.limits);
    page.kept = bounds.most > 0 && said.unwrap_or(bounds.kept);
    let VersionsPage { versions, more, .. } = &mut page;
    *more |= fit(&connection, versions);
    connection.reply(Kind::VersionsPage, request, &page);
    Ok(())
}
