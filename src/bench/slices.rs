//! Latency over time: the measured span in equal slices, a histogram for each.

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::Instant;

use super::send::Span;

/// Slices of a span.
const SLICES: usize = 50;

/// Latencies in microseconds, by slice; two digits, for they are drawn.
#[derive(Debug)]
pub(super) struct Slices(Vec<Histogram<u32>>);

/// One slice, as it is reported.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Slice {
    /// Its middle, seconds after the measuring began.
    pub at_seconds: f64,
    /// Messages per second that belong to it: acknowledged in it, in an open loop due in it.
    pub messages_per_second: f64,
    /// Latency percentiles, milliseconds.
    pub p50_ms: f64,
    /// 99 of 100.
    pub p99_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

impl Slices {
    pub(super) fn new() -> anyhow::Result<Self> {
        let slice = Histogram::new_with_bounds(1, 60_000_000, 2)?;
        Ok(Self(vec![slice; SLICES]))
    }

    /// Messages that belong to this moment of the span.
    pub(super) fn note(&mut self, when: Instant, span: Span, micros: u64, count: u64) {
        let length = span.to.saturating_duration_since(span.from).as_secs_f64();
        let at = when.saturating_duration_since(span.from).as_secs_f64() / length.max(f64::MIN_POSITIVE);
        if let Some(slice) = self.0.get_mut((at * SLICES as f64) as usize) {
            slice.saturating_record_n(micros, u32::try_from(count).unwrap_or(u32::MAX));
        }
    }

    /// Takes another sender's in.
    pub(super) fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        for (mine, other) in self.0.iter_mut().zip(&other.0) {
            mine.add(other)?;
        }
        Ok(())
    }

    /// As it is reported, of a span of so many seconds; slices without a message are left out.
    pub(super) fn report(&self, seconds: f64) -> Vec<Slice> {
        let each = seconds / SLICES as f64;
        let filled = self.0.iter().enumerate().filter(|(_, slice)| !slice.is_empty());
        filled
            .map(|(at, slice)| Slice {
                at_seconds: (at as f64 + 0.5) * each,
                messages_per_second: slice.len() as f64 / each,
                p50_ms: slice.value_at_quantile(0.5) as f64 / 1000.0,
                p99_ms: slice.value_at_quantile(0.99) as f64 / 1000.0,
                max_ms: slice.max() as f64 / 1000.0,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_message_is_in_the_slice_of_its_moment() {
        let from = Instant::now();
        let span = Span { from, to: from + Duration::from_secs(5), most: u64::MAX };
        let (mut one, mut other) = (Slices::new().unwrap(), Slices::new().unwrap());
        one.note(from + Duration::from_millis(150), span, 1_000, 1);
        other.note(from + Duration::from_millis(199), span, 3_000, 1);
        other.note(from + Duration::from_millis(4_950), span, 9_000, 5);
        other.note(span.to, span, 1, 1);
        one.add(&other).unwrap();
        let report = one.report(5.0);
        assert_eq!(report.len(), 2, "{report:?}");
        assert!((report[0].at_seconds - 0.15).abs() < 1e-9 && (report[1].at_seconds - 4.95).abs() < 1e-9);
        assert!((report[0].messages_per_second - 20.0).abs() < 1e-9);
        assert!((report[1].messages_per_second - 50.0).abs() < 1e-9);
        assert!((2.9..3.1).contains(&report[0].max_ms), "{report:?}");
    }
}
