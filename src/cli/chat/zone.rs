//! Times as a person reads them, where the person is.

use chrono::{DateTime, FixedOffset, Local, TimeZone, Utc};

/// Where times are shown for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Zone {
    /// The machine's own zone.
    Local,
    /// For tests, which must not depend on the machine.
    #[cfg(test)]
    Utc,
}

impl Zone {
    fn at(self, time_ms: u64) -> DateTime<FixedOffset> {
        let millis = i64::try_from(time_ms).unwrap_or(i64::MAX);
        // A time outside the calendar (from a cluster with a broken clock) is shown as the epoch.
        let utc = Utc.timestamp_millis_opt(millis).single().unwrap_or_default();
        match self {
            Self::Local => utc.with_timezone(&Local).fixed_offset(),
            #[cfg(test)]
            Self::Utc => utc.fixed_offset(),
        }
    }

    /// `14:03`.
    pub(super) fn time(self, time_ms: u64) -> String {
        self.at(time_ms).format("%H:%M").to_string()
    }

    /// `Today`, `Yesterday` or `Mon 23 November 2026`.
    pub(super) fn day(self, time_ms: u64, now_ms: u64) -> String {
        let (day, today) = (self.at(time_ms).date_naive(), self.at(now_ms).date_naive());
        match (today - day).num_days() {
            0 => "Today".to_owned(),
            1 => "Yesterday".to_owned(),
            _ => day.format("%a %-d %B %Y").to_string(),
        }
    }
}

/// Whether two times fall on one day.
pub(super) fn same_day(zone: Zone, a: u64, b: u64) -> bool {
    zone.at(a).date_naive() == zone.at(b).date_naive()
}
