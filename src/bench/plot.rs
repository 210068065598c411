//! Figures as a picture: SVG, which a page shows and a diff can read.

use std::path::Path;

use anyhow::{Context, anyhow};
use plotters::prelude::*;

use super::report::LoadReport;

const SIZE: (u32, u32) = (900, 540);

/// A line of a picture.
struct Line {
    name: &'static str,
    points: Vec<(f64, f64)>,
}

/// The words around it.
struct Words<'a> {
    title: &'a str,
    x: &'a str,
    y: &'a str,
}

/// Latency over the time of one run.
pub(super) fn over_time(path: &Path, report: &LoadReport) -> anyhow::Result<()> {
    let of = |name, value: fn(&super::slices::Slice) -> f64| Line {
        name,
        points: report.over_time.iter().map(|slice| (slice.at_seconds, value(slice))).collect(),
    };
    let lines =
        [of("p50", |slice| slice.p50_ms), of("p99", |slice| slice.p99_ms), of("max", |slice| slice.max_ms)];
    let title = format!("{}: {:.0} acked/s", report.shape(), report.acked_per_second);
    let words = Words { title: &title, x: "seconds", y: "latency, ms" };
    save(path, &draw(&words, &lines, true)?)
}

/// Latency against throughput, a point for each run.
pub(super) fn sweep(path: &Path, reports: &[LoadReport]) -> anyhow::Result<()> {
    let of = |name, value: fn(&LoadReport) -> f64| Line {
        name,
        points: reports.iter().map(|report| (report.acked_per_second, value(report))).collect(),
    };
    let lines = [
        of("p50", |report| report.p50_ms),
        of("p99", |report| report.p99_ms),
        of("p99.9", |report| report.p999_ms),
    ];
    let title = reports.first().map(LoadReport::shape).unwrap_or_default();
    let words = Words { title: &title, x: "acked/s", y: "latency from the intended time, ms" };
    save(path, &draw(&words, &lines, false)?)
}

fn save(path: &Path, picture: &str) -> anyhow::Result<()> {
    std::fs::write(path, picture).with_context(|| format!("writing {}", path.display()))
}

/// Latencies on a logarithmic axis; `bare` draws no points on the lines.
fn draw(words: &Words<'_>, lines: &[Line], bare: bool) -> anyhow::Result<String> {
    let all = || lines.iter().flat_map(|line| line.points.iter());
    let right = all().map(|point| point.0).fold(0.0, f64::max).max(1e-9) * 1.05;
    let low = all().map(|point| point.1).filter(|y| *y > 0.0).fold(f64::MAX, f64::min);
    let high = all().map(|point| point.1).fold(0.0, f64::max);
    let (low, high) = if low > high { (0.1, 1.0) } else { (low * 0.8, high * 1.25) };
    let mut picture = String::new();
    let drawn = |fault: &dyn std::fmt::Display| anyhow!("drawing: {fault}");
    {
        let area = SVGBackend::with_string(&mut picture, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(|fault| drawn(&fault))?;
        let mut chart = ChartBuilder::on(&area)
            .caption(words.title, ("sans-serif", 18))
            .margin(14)
            .x_label_area_size(42)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..right, (low..high).log_scale())
            .map_err(|fault| drawn(&fault))?;
        chart.configure_mesh().x_desc(words.x).y_desc(words.y).draw().map_err(|fault| drawn(&fault))?;
        for (at, line) in lines.iter().enumerate() {
            let color = Palette99::pick(at).to_rgba();
            let points: Vec<(f64, f64)> =
                line.points.iter().copied().filter(|(_, latency)| *latency > 0.0).collect();
            chart
                .draw_series(LineSeries::new(points.clone(), color.stroke_width(2)))
                .map_err(|fault| drawn(&fault))?
                .label(line.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
            if !bare {
                let dots = points.into_iter().map(|point| Circle::new(point, 4, color.filled()));
                chart.draw_series(dots).map_err(|fault| drawn(&fault))?;
            }
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK)
            .position(SeriesLabelPosition::UpperLeft)
            .draw()
            .map_err(|fault| drawn(&fault))?;
        area.present().map_err(|fault| drawn(&fault))?;
    }
    Ok(picture)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_its_lines_and_says_what_they_are() {
        let words = Words { title: "8 x 256", x: "acked/s", y: "latency, ms" };
        let line = |name, points| Line { name, points };
        let lines = [
            line("p50", vec![(1_000.0, 0.9), (50_000.0, 4.0)]),
            line("p99", vec![(1_000.0, 2.0), (50_000.0, 40.0)]),
        ];
        let picture = draw(&words, &lines, false).unwrap();
        assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
        for word in ["8 x 256", "acked/s", "latency, ms", "p50", "p99"] {
            assert!(picture.contains(word), "{word} is not in the picture");
        }
        assert_eq!(picture.matches("<circle").count(), 4, "a point for each figure");
        // Nothing to draw is a picture without lines, and no error.
        let empty = draw(&words, &[line("p50", Vec::new())], true).unwrap();
        assert!(empty.contains("acked/s") && !empty.contains("<circle"));
    }
}
