//! What arrives over the peer link: a first byte says whether it is for forming the cluster, for the audit or for the router.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::future::BoxFuture;
use rookery_raft::AppHandler;
use rookery_wire::codec::decode;
use rookery_wire::frame::frame_bytes;
use rookery_wire::{ErrorBody, ErrorCode, Kind};

use crate::system::Trail;
use crate::system::forming::{Forming, Reply, TAG};
use crate::system::trail::AUDIT_TAG;

/// The error frame for a client that came to the peer port.
pub(super) fn client_refusal() -> Bytes {
    let text = "this is a node's peer port; clients connect to the `client` address of cluster.toml";
    frame_bytes(Kind::Error, 0, &ErrorBody::new(ErrorCode::WrongPort, text))
}

/// Hands messages on; what comes before its receiver is there is answered with "starting" or dropped.
#[derive(Default)]
pub(super) struct PeerApp {
    forming: OnceLock<Arc<Forming>>,
    audit: OnceLock<Trail>,
    router: OnceLock<Arc<dyn AppHandler>>,
}

impl PeerApp {
    /// Set once.
    pub(super) fn set_forming(&self, forming: Arc<Forming>) {
        let _ = self.forming.set(forming);
    }
    /// Set once.
    pub(super) fn set_audit(&self, audit: Trail) {
        let _ = self.audit.set(audit);
    }
    /// Set once.
    pub(super) fn set_router(&self, router: Arc<dyn AppHandler>) {
        let _ = self.router.set(router);
    }
}

impl AppHandler for PeerApp {
    fn call(&self, from: u16, body: Bytes) -> BoxFuture<'static, Bytes> {
        if body.first() == Some(&TAG) {
            let forming = self.forming.get().cloned();
            return Box::pin(async move {
                let reply = match (forming, decode(&body.slice(1..))) {
                    (Some(forming), Ok(question)) => forming.answer(question).await,
                    (None, _) => Reply::No("the node is starting".to_owned()),
                    (_, Err(fault)) => Reply::No(fault.to_string()),
                };
                rookery_wire::encode(&reply)
            });
        }
        if body.first() == Some(&AUDIT_TAG) {
            let audit = self.audit.get().cloned();
            // No bytes are no answer: the asker asks again.
            return Box::pin(async move {
                match audit {
                    Some(audit) => audit.answer(body.slice(1..)).await,
                    None => Bytes::new(),
                }
            });
        }
        match self.router.get() {
            Some(router) => router.call(from, body),
            // Not a message of the router's version: the asker counts it as no answer and asks again.
            None => Box::pin(std::future::ready(Bytes::new())),
        }
    }

    fn cast(&self, from: u16, body: Bytes) {
        if let Some(router) = self.router.get() {
            router.cast(from, body);
        }
    }
}
