//! Why a run broke off: what the cluster did, or failed to do, is a verdict on it; everything else says nothing of it.

use super::judge::Standing;

/// The cluster under test did what none may do: ended by itself, did not stop, did not come back.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ClusterFault(pub String);

/// An error that is the cluster's, with its text.
pub(super) fn cluster(text: impl Into<String>) -> anyhow::Error {
    ClusterFault(text.into()).into()
}

/// What a run is worth that broke off with this.
pub(super) fn standing(why: &anyhow::Error) -> Standing {
    match why.downcast_ref::<ClusterFault>() {
        Some(_) => Standing::Bad,
        None => Standing::Inconclusive,
    }
}
