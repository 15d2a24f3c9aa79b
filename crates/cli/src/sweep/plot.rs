//! What a sweep found along one of its axes, as an SVG picture.
//!
//! ```text
//!   +-- panel: walks -----------------+  legend: one line for each series
//!   +-- panel: cycles of translation -+
//!       the axis's values, evenly spaced
//! ```

use crate::policies::plot::nice_ceiling;
use crate::svg::Escaped;
use std::fmt::{self, Write as _};

const LEFT: f64 = 70.0;
const RIGHT: f64 = 620.0;
const WIDTH: f64 = 1000.0;
const TOP: f64 = 80.0;
const PANEL_HEIGHT: f64 = 250.0;
const PANEL_GAP: f64 = 70.0;
const BOTTOM: f64 = 30.0;

/// Colours that stay apart for the colour-blind, and dashes for the next round of them.
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a3db8", "#000000"];
const DASHES: [&str; 3] = ["", "7 4", "2 4"];

/// Lines that stay apart.
pub(super) const SERIES_MAX: usize = COLOURS.len() * DASHES.len();

/// One line of a panel: a value for each value of the axis, where there is one.
pub(super) struct Series {
    pub(super) name: String,
    pub(super) values: Vec<Option<f64>>,
}

/// One figure.
pub(super) struct Panel {
    pub(super) unit: &'static str,
    pub(super) series: Vec<Series>,
}

/// A picture of `panels` over `labels`.
pub(super) fn draw(title: &str, axis: &str, labels: &[String], panels: &[Panel]) -> String {
    let mut svg = String::new();
    write_all(&mut svg, title, axis, labels, panels).expect("a string takes any text");
    svg
}

fn write_all(
    svg: &mut String,
    title: &str,
    axis: &str,
    labels: &[String],
    panels: &[Panel],
) -> fmt::Result {
    let legend_rows = panels.first().map_or(0, |panel| panel.series.len()) as f64;
    let panels_end = TOP + panels.len() as f64 * (PANEL_HEIGHT + PANEL_GAP);
    let height = (panels_end + BOTTOM).max(TOP + legend_rows * 20.0 + BOTTOM);
    writeln!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12" fill="#222">"##
    )?;
    writeln!(svg, r##"<rect width="100%" height="100%" fill="#fff"/>"##)?;
    writeln!(svg, r##"<text x="{LEFT}" y="34" font-size="17">{}</text>"##, Escaped(title))?;
    let mut top = TOP;
    for panel in panels {
        draw_panel(svg, top, axis, labels, panel)?;
        top += PANEL_HEIGHT + PANEL_GAP;
    }
    for (row, series) in panels.first().map_or(&[][..], |panel| &panel.series).iter().enumerate() {
        let (colour, dashes) = style(row);
        let y = TOP + row as f64 * 20.0;
        let (from, to, text) = (RIGHT + 20.0, RIGHT + 50.0, RIGHT + 58.0);
        writeln!(
            svg,
            r##"<line x1="{from}" x2="{to}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"/><text x="{text}" y="{}">{}</text>"##,
            y + 4.0,
            Escaped(&series.name)
        )?;
    }
    writeln!(svg, "</svg>")
}

fn style(row: usize) -> (&'static str, &'static str) {
    (COLOURS[row % COLOURS.len()], DASHES[row / COLOURS.len() % DASHES.len()])
}

fn x(index: usize, count: usize) -> f64 {
    LEFT + (RIGHT - LEFT) * (index as f64 + 0.5) / count.max(1) as f64
}

fn draw_panel(
    svg: &mut String,
    top: f64,
    axis: &str,
    labels: &[String],
    panel: &Panel,
) -> fmt::Result {
    let values = panel.series.iter().flat_map(|series| series.values.iter().flatten());
    let max = nice_ceiling(values.copied().fold(0.0, f64::max));
    let y = |value: f64| top + PANEL_HEIGHT * (1.0 - value / max);
    writeln!(svg, r##"<text x="{LEFT}" y="{}" fill="#555">{}</text>"##, top - 12.0, panel.unit)?;
    for step in 0..=5 {
        let value = max * f64::from(step) / 5.0;
        let stroke = if step == 0 { "#888" } else { "#e4e4e4" };
        let digits = if max < 0.1 { 4 } else { usize::from(max < 50.0) * 2 };
        writeln!(
            svg,
            r##"<line x1="{LEFT}" x2="{RIGHT}" y1="{0:.1}" y2="{0:.1}" stroke="{stroke}"/><text x="{1}" y="{2:.1}" text-anchor="end">{value:.digits$}</text>"##,
            y(value),
            LEFT - 8.0,
            y(value) + 4.0
        )?;
    }
    for (index, label) in labels.iter().enumerate() {
        let label: String = label.chars().take(24).collect();
        writeln!(
            svg,
            r##"<text x="{:.1}" y="{:.1}" text-anchor="middle">{}</text>"##,
            x(index, labels.len()),
            top + PANEL_HEIGHT + 18.0,
            Escaped(&label)
        )?;
    }
    writeln!(
        svg,
        r##"<text x="{:.1}" y="{:.1}" text-anchor="middle" fill="#555">{}</text>"##,
        f64::midpoint(LEFT, RIGHT),
        top + PANEL_HEIGHT + 38.0,
        Escaped(axis)
    )?;
    for (row, series) in panel.series.iter().enumerate() {
        draw_series(svg, row, series, y)?;
    }
    Ok(())
}

fn draw_series(
    svg: &mut String,
    row: usize,
    series: &Series,
    y: impl Fn(f64) -> f64,
) -> fmt::Result {
    let (colour, dashes) = style(row);
    let count = series.values.len();
    let points: Vec<(f64, f64)> = (0..count)
        .zip(&series.values)
        .filter_map(|(index, value)| Some((x(index, count), y((*value)?))))
        .collect();
    let line: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    writeln!(
        svg,
        r##"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"/>"##,
        line.join(" ")
    )?;
    points.iter().try_for_each(|(x, y)| {
        writeln!(svg, r##"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{colour}"/>"##)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_in_every_panel_and_gaps_stay_gaps() {
        let series = |name: &str, values| Series { name: name.to_owned(), values };
        let panel = |unit| Panel {
            unit,
            series: vec![
                series("a<b", vec![Some(1.0), None, Some(3.0)]),
                series("c", vec![Some(0.0); 3]),
            ],
        };
        let labels = ["1", "2", "4"].map(str::to_owned);
        let svg = draw("t", "ways", &labels, &[panel("walks"), panel("cycles")]);
        assert_eq!((svg.matches("<polyline").count(), svg.matches("<circle").count()), (4, 10));
        assert!(svg.contains("a&lt;b") && svg.trim_end().ends_with("</svg>"));
        let flat = draw("t", "ways", &labels, &[Panel { unit: "walks", series: Vec::new() }]);
        assert!(!flat.contains("NaN") && !flat.contains("inf"));
    }
}
