//! What can go wrong for the application.

use rookery_wire::{ErrorBody, ErrorCode, Retry};

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The cluster refused it, finally.
    #[error("refused: {0}")]
    Refused(ErrorBody),
    /// There was no answer in time.
    #[error("no answer to {what} in time ({last}); check that the nodes are up and reachable")]
    Deadline {
        /// The request.
        what: &'static str,
        /// Whether it left this process: then it may yet be carried out, and the client goes on trying.
        written: bool,
        /// The last trouble, for people.
        last: String,
    },
    /// The client has ended.
    #[error("the client has ended: {0}")]
    Closed(String),
    /// Content above the limit the server announced; nothing was sent.
    #[error("content of {size} bytes, the cluster takes at most {limit}; shorten it")]
    TooLarge {
        /// What it has.
        size: usize,
        /// What it may have.
        limit: usize,
    },
    /// A request that can never be right; nothing was sent.
    #[error("invalid request: {0}")]
    Invalid(String),
    /// The memory file cannot be read or written.
    #[error("memory file {path}: {reason}")]
    Memory {
        /// The file.
        path: String,
        /// What happened, and the remedy.
        reason: String,
    },
    /// The server said something that makes no sense here.
    #[error("protocol fault: {0}")]
    Protocol(String),
}

impl ClientError {
    /// Whether asking again can help, as the cluster said with its refusal. It holds for codes of a newer cluster too, which
    /// are carried as [`ErrorCode::Unknown`] with their number and text.
    pub fn retry(&self) -> Option<Retry> {
        match self {
            Self::Refused(body) => Some(body.retry),
            _ => None,
        }
    }

    /// The code of a refusal.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused(body) => Some(body.code),
            _ => None,
        }
    }

    /// Whether a send that failed so may nevertheless be stored, now or later. `false` is definite.
    pub fn outcome_unknown(&self) -> bool {
        match self {
            Self::Deadline { written, .. } => *written,
            Self::Closed(_) | Self::Protocol(_) => true,
            // Of a code that is not known here, the range tells: only those of the cluster's own troubles leave it open.
            Self::Refused(body) => match body.code {
                ErrorCode::Unknown(number) => number >= 500,
                code => matches!(code, ErrorCode::AlreadyTrimmed | ErrorCode::Unavailable),
            },
            Self::TooLarge { .. } | Self::Invalid(_) | Self::Memory { .. } => false,
        }
    }
}
