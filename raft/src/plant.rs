//! Deliberate bugs, to show that the checker finds them: compiled in only with the feature `planted-bugs`, and then
//! only the one named by the variable `ROOKERY_PLANT` acts. Without the feature every question is a constant `false`
//! and its branch is gone. Must never decide anything else.

/// Whether this bug is wanted.
#[cfg(feature = "planted-bugs")]
pub fn planted(name: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("ROOKERY_PLANT").unwrap_or_default()) == name
}

/// Whether this bug is wanted: never, in a build without the feature.
#[cfg(not(feature = "planted-bugs"))]
#[inline]
pub const fn planted(_name: &str) -> bool {
    false
}

/// True at most once a second.
#[cfg(feature = "planted-bugs")]
pub(crate) fn once_a_second() -> bool {
    static LAST: std::sync::Mutex<Option<std::time::Instant>> = std::sync::Mutex::new(None);
    let Ok(mut last) = LAST.lock() else { return true };
    let over = last.is_none_or(|last| last.elapsed() >= std::time::Duration::from_secs(1));
    if over {
        *last = Some(std::time::Instant::now());
    }
    over
}

/// Asked by no build without the feature.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) const fn once_a_second() -> bool {
    true
}

#[cfg(feature = "planted-bugs")]
mod watch {
    use std::collections::HashMap;
    use std::sync::{Mutex, OnceLock};

    use bytes::Bytes;

    use crate::types::GroupId;

    /// Gets entries as they are appended, long before they are committed: index and payload.
    pub type Watcher = Box<dyn FnMut(&[(u64, Bytes)]) + Send>;

    static WATCHERS: OnceLock<Mutex<HashMap<GroupId, Watcher>>> = OnceLock::new();

    /// Shows every entry appended to a group to somebody who must not see it yet.
    pub fn watch_appends(group: GroupId, watcher: Watcher) {
        if let Ok(mut watchers) = WATCHERS.get_or_init(Mutex::default).lock() {
            watchers.insert(group, watcher);
        }
    }

    pub(crate) fn appended(group: GroupId, entries: &[(u64, Bytes)]) {
        if let Some(watchers) = WATCHERS.get()
            && let Ok(mut watchers) = watchers.lock()
            && let Some(watcher) = watchers.get_mut(&group)
        {
            watcher(entries);
        }
    }
}

#[cfg(feature = "planted-bugs")]
pub(crate) use watch::appended;
#[cfg(feature = "planted-bugs")]
pub use watch::{Watcher, watch_appends};
