//! What the gateway counts, for metrics. Plain atomics; reading them costs nothing and stops nobody.

use std::sync::atomic::{AtomicU64, Ordering};

use rookery_wire::ErrorCode;

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident;)+) => {
        /// The gateway's counters since its start.
        #[derive(Debug)]
        pub struct GatewayStats {
            $($(#[doc = $doc])+ pub(super) $name: AtomicU64,)+
            by_code: Vec<AtomicU64>,
        }

        impl GatewayStats {
            pub(super) fn new() -> Self {
                Self {
                    $($name: AtomicU64::new(0),)+
                    by_code: ErrorCode::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
                }
            }

            /// Every counter with its name, for a page of figures.
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.load(Ordering::Relaxed)),)+]
            }

            $($(#[doc = $doc])+ pub fn $name(&self) -> u64 {
                self.$name.load(Ordering::Relaxed)
            })+
        }
    };
}

counters! {
    /// Connections taken.
    accepted;
    /// Connections that said HELLO and were welcomed.
    welcomed;
    /// Connections ended because the same device came again.
    replaced;
    /// Connections ended because they said nothing, or took nothing, for too long.
    idled;
    /// Frames read.
    frames_in;
    /// Bytes read.
    bytes_in;
    /// Bytes written.
    bytes_out;
    /// Writes made; frames that wait are written together.
    writes;
    /// Requests taken.
    requests;
    /// ACKs given.
    acks;
    /// Frames pushed.
    pushes;
    /// Ephemeral messages and receipts pushed.
    passed;
    /// Times a topic began to lag for a connection.
    lags;
    /// Errors given, of any code.
    errors;
}

impl GatewayStats {
    pub(super) fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }

    pub(super) fn error(&self, code: ErrorCode) {
        Self::add(&self.errors, 1);
        if let Some(at) = ErrorCode::ALL.iter().position(|known| *known == code) {
            Self::add(&self.by_code[at], 1);
        }
    }

    /// Errors given by code; codes never given are left out.
    pub fn errors_by_code(&self) -> Vec<(ErrorCode, u64)> {
        let counts = self.by_code.iter().map(|count| count.load(Ordering::Relaxed));
        ErrorCode::ALL.iter().copied().zip(counts).filter(|(_, count)| *count > 0).collect()
    }

    /// Requests refused with BUSY.
    pub fn busy(&self) -> u64 {
        self.errors_by_code().iter().find(|(code, _)| *code == ErrorCode::Busy).map_or(0, |(_, count)| *count)
    }
}
