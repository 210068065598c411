//! What a request says of users that may not be there, where only users may be named (`limits.users`).
//!
//! It is asked of the users' shards before the log, and travels in the command: that somebody is a user never becomes untrue, so
//! what was so within the request is a good answer to it. Who begins a direct session is not asked about here: the list of the
//! other says it, when the session opens.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use rookery_wire::{ErrorBody, UserId};

use super::core::Core;
use super::reads::unexpected;
use crate::config::{Limits, Users};
use crate::shard::{Freshness, Read, ReadReply};
use crate::state::naming::no_user;
use crate::state::{Act, ChangeKind, EntityKey};

/// Whether [`tell`] has to be asked before such an act goes on.
pub(super) fn asks(limits: &Limits, act: &Act) -> bool {
    let brings = matches!(act, Act::Change { kind: ChangeKind::Create | ChangeKind::Add, .. });
    brings && limits.users == Users::Created
}

/// Has the act say which of the users that it brings in is none.
///
/// # Errors
/// Those of the reads; then nothing was asked of the session.
pub(super) async fn tell(core: &Core, act: &mut Act) -> Result<(), ErrorBody> {
    if asks(&core.options.limits, act)
        && let Act::Change { users, unknown, .. } = act
    {
        *unknown = first_unknown(core, users).await?;
    }
    Ok(())
}

/// Whether this one may be asked for something.
///
/// # Errors
/// UNKNOWN_USER, and those of the read.
pub(super) async fn is_user(core: &Core, user: &UserId) -> Result<(), ErrorBody> {
    if core.options.limits.users == Users::Named {
        return Ok(());
    }
    first_unknown(core, std::slice::from_ref(user)).await?.map_or(Ok(()), |user| Err(no_user(&user)))
}

/// The first of them by name that is no user.
async fn first_unknown(core: &Core, users: &[UserId]) -> Result<Option<UserId>, ErrorBody> {
    let router = &core.router;
    let mut shards: BTreeMap<u32, Vec<UserId>> = BTreeMap::new();
    for user in users {
        shards.entry(router.shard_of(&EntityKey::User(user.clone()))).or_default().push(user.clone());
    }
    let asked = shards.into_iter().map(|(shard, users)| async move {
        let read = Read::Known { users: users.clone() };
        match router.read(shard, read, Freshness::Linearizable).await? {
            ReadReply::Known(known) if known.len() == users.len() => {
                Ok(users.into_iter().zip(known).filter(|(_, known)| !known).map(|(user, _)| user).min())
            }
            other => Err(unexpected(&other)),
        }
    });
    Ok(try_join_all(asked).await?.into_iter().flatten().min())
}
