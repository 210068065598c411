//! How many files a process may have open: each connection is one.
//!
//! A system allows few at first and more to a process that asks (the soft and the hard limit). Only raises the soft one, never
//! the hard one, and never lowers either.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The system does not let this process have so many files open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{wanted} open files are needed, and this process may have {allowed}: raise `ulimit -Hn`")]
pub struct TooFew {
    /// Files wanted.
    pub wanted: u64,
    /// Files that the process may have open as it is.
    pub allowed: u64,
}

/// Makes sure that this process, and every one it starts from now on, may have so many files open.
///
/// # Errors
/// When the system does not allow it; nothing has changed then.
pub fn allow(wanted: u64) -> Result<(), TooFew> {
    let limit = getrlimit(Resource::Nofile);
    let Some(allowed) = limit.current.filter(|current| *current < wanted) else { return Ok(()) };
    let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).map_err(|_| TooFew { wanted, allowed })
}

/// As [`allow`], but takes as many as there can be where so many cannot.
///
/// # Errors
/// With what this process may have then.
pub fn allow_most(wanted: u64) -> Result<(), TooFew> {
    let Err(few) = allow(wanted) else { return Ok(()) };
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(few.allowed);
    match allow(most) {
        Ok(()) => Err(TooFew { wanted, allowed: most }),
        Err(_) => Err(few),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More than any system has; whoever may raise the hard limit does not do so by accident.
    #[test]
    fn what_cannot_be_had_is_told_and_changes_nothing() {
        let before = getrlimit(Resource::Nofile);
        allow(1).unwrap();
        assert_eq!(getrlimit(Resource::Nofile), before);
        // Without a limit there is nothing to refuse.
        let Some(most) = before.maximum else { return };
        let refused = allow(most + 1).unwrap_err();
        assert_eq!((refused.wanted, Some(refused.allowed)), (most + 1, before.current));
        assert!(refused.to_string().contains("ulimit"), "{refused}");
        assert_eq!(getrlimit(Resource::Nofile), before);
        assert_eq!(allow_most(most + 1), Err(TooFew { wanted: most + 1, allowed: most }));
        allow(most).unwrap();
        assert_eq!(getrlimit(Resource::Nofile), Rlimit { current: Some(most), maximum: Some(most) });
    }
}
