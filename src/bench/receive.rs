//! Members who only receive: they count pushes and decode nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rookery_wire::Kind;

use super::send::Span;
use crate::check::link::Link;

/// Counts messages pushed in the span, until the connection ends or the task is dropped.
pub(super) async fn count(mut link: Link, span: Span, pushed: Arc<AtomicU64>, lagged: Arc<AtomicU64>) {
    while let Ok(frame) = link.next().await {
        let now = tokio::time::Instant::now();
        if now < span.from || now >= span.to {
            continue;
        }
        if frame.kind == Kind::Message as u8 {
            pushed.fetch_add(1, Ordering::Relaxed);
        } else if frame.kind == Kind::Lagged as u8 {
            lagged.fetch_add(1, Ordering::Relaxed);
        }
    }
}
