//! Miss-ratio curves as an SVG picture.
//!
//! ```text
//!   +-- panel: miss ratio over capacity (logarithmic) --+  legend, in the order of the curves
//!   +-- panel: misses above the optimum, in percent ----+  (if the optimum is there)
//! ```
//!
//! Written by hand: two panels of lines need neither fonts nor a plotting library, and the file stays readable.

use crate::svg::Escaped;
use std::fmt::{self, Write as _};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 800.0;
const TOP: f64 = 70.0;
const PANEL_HEIGHT: f64 = 330.0;
const PANEL_GAP: f64 = 70.0;
const BOTTOM: f64 = 60.0;

/// The optimum's name among the curves.
const OPT: &str = "opt";

/// Colours that stay apart for the colour-blind and in grey, and how a line is drawn.
const STYLES: [(&str, &str, &str); 10] = [
    ("two-list", "#0072b2", ""),
    ("mglru", "#56b4e9", ""),
    ("clock", "#009e73", ""),
    ("fifo", "#999999", ""),
    ("lru", "#d55e00", ""),
    ("arc", "#cc79a7", ""),
    ("s3-fifo", "#e69f00", ""),
    ("sieve", "#7a3db8", ""),
    ("random", "#999999", "2 4"),
    (OPT, "#000000", "7 4"),
];

type Curve = (&'static str, Vec<f64>);

/// A picture of `curves`, each with a miss ratio for each of `capacities`, which rise.
pub(super) fn draw(title: &str, capacities: &[u32], curves: &[Curve]) -> String {
    let excess = excess_over_opt(curves);
    let panels = if excess.is_some() { 2.0 } else { 1.0 };
    let height = TOP + panels * PANEL_HEIGHT + (panels - 1.0) * PANEL_GAP + BOTTOM;
    let mut svg = String::new();
    let ratios = Panel {
        top: TOP,
        capacities,
        max: 1.0_f64.min(nice_ceiling(largest(curves))),
        unit: "miss ratio",
    };
    write_all(&mut svg, title, height, &ratios, curves, excess.as_deref())
        .expect("a string takes any text");
    svg
}

fn write_all(
    svg: &mut String,
    title: &str,
    height: f64,
    ratios: &Panel<'_>,
    curves: &[Curve],
    excess: Option<&[Curve]>,
) -> fmt::Result {
    writeln!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13" fill="#222">"##
    )?;
    writeln!(svg, r##"<rect width="100%" height="100%" fill="#fff"/>"##)?;
    writeln!(svg, r##"<text x="{LEFT}" y="32" font-size="18">{}</text>"##, Escaped(title))?;
    ratios.draw(svg, curves, Number::Ratio)?;
    legend(svg, curves)?;
    if let Some(excess) = excess {
        let panel = Panel {
            top: TOP + PANEL_HEIGHT + PANEL_GAP,
            max: nice_ceiling(largest(excess)),
            unit: "misses above the optimum",
            ..*ratios
        };
        panel.draw(svg, excess, Number::Percent)?;
    }
    let middle = f64::midpoint(LEFT, RIGHT);
    writeln!(
        svg,
        r##"<text x="{middle}" y="{}" text-anchor="middle">capacity (objects)</text>"##,
        height - 14.0
    )?;
    writeln!(svg, "</svg>")
}

/// Each curve's misses above the optimum's, in parts of the latter; `None` without an optimum that misses.
fn excess_over_opt(curves: &[Curve]) -> Option<Vec<Curve>> {
    let (_, opt) = curves.iter().find(|(name, _)| *name == OPT)?;
    let over = |curve: &[f64]| {
        curve.iter().zip(opt).map(|(ratio, best)| ratio / best - 1.0).collect::<Vec<_>>()
    };
    let excess: Vec<Curve> = curves
        .iter()
        .filter(|(name, _)| *name != OPT)
        .map(|&(name, ref curve)| (name, over(curve)))
        .collect();
    (!excess.is_empty() && opt.iter().all(|&ratio| ratio > 0.0)).then_some(excess)
}

fn largest(curves: &[Curve]) -> f64 {
    curves.iter().flat_map(|(_, curve)| curve).copied().fold(0.0, f64::max)
}

/// The next round number, one that falls into five equal parts.
pub(crate) fn nice_ceiling(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.5, 10.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|&nice| nice >= value * 0.999)
        .unwrap_or(value)
}

#[derive(Clone, Copy)]
enum Number {
    Ratio,
    Percent,
}

#[derive(Clone, Copy)]
struct Panel<'a> {
    top: f64,
    capacities: &'a [u32],
    /// Value at the upper edge.
    max: f64,
    unit: &'a str,
}

impl Panel<'_> {
    fn x(&self, capacity: f64) -> f64 {
        let (first, last) =
            (f64::from(self.capacities[0]), f64::from(self.capacities[self.capacities.len() - 1]));
        let part = if last > first { (capacity / first).ln() / (last / first).ln() } else { 0.5 };
        LEFT + part * (RIGHT - LEFT)
    }

    fn y(&self, value: f64) -> f64 {
        self.top + PANEL_HEIGHT * (1.0 - value / self.max)
    }

    fn draw(&self, svg: &mut String, curves: &[Curve], number: Number) -> fmt::Result {
        writeln!(
            svg,
            r##"<text x="{LEFT}" y="{}" fill="#555">{}</text>"##,
            self.top - 12.0,
            self.unit
        )?;
        self.draw_grid(svg, number)?;
        for (name, curve) in curves {
            self.draw_curve(svg, name, curve)?;
        }
        Ok(())
    }

    fn draw_grid(&self, svg: &mut String, number: Number) -> fmt::Result {
        for step in 0..=5 {
            let value = self.max * f64::from(step) / 5.0;
            let y = self.y(value);
            let stroke = if step == 0 { "#888" } else { "#e4e4e4" };
            writeln!(
                svg,
                r##"<line x1="{LEFT}" x2="{RIGHT}" y1="{y:.1}" y2="{y:.1}" stroke="{stroke}"/>"##
            )?;
            let label = match number {
                Number::Ratio => {
                    format!("{:.prec$}", value, prec = if self.max < 0.1 { 3 } else { 2 })
                }
                Number::Percent => {
                    format!("{:.prec$} %", value * 100.0, prec = usize::from(self.max < 0.05))
                }
            };
            writeln!(
                svg,
                r##"<text x="{}" y="{:.1}" text-anchor="end">{label}</text>"##,
                LEFT - 8.0,
                y + 4.5
            )?;
        }
        for capacity in decades(self.capacities) {
            let x = self.x(f64::from(capacity));
            let (from, to) = (self.top, self.top + PANEL_HEIGHT);
            writeln!(
                svg,
                r##"<line x1="{x:.1}" x2="{x:.1}" y1="{from}" y2="{to}" stroke="#e4e4e4"/>"##
            )?;
            let label = super::report::grouped(u64::from(capacity));
            writeln!(
                svg,
                r##"<text x="{x:.1}" y="{}" text-anchor="middle">{label}</text>"##,
                to + 20.0
            )?;
        }
        Ok(())
    }

    fn draw_curve(&self, svg: &mut String, name: &str, curve: &[f64]) -> fmt::Result {
        let (colour, dashes) = style(name);
        let points: Vec<String> = self
            .capacities
            .iter()
            .zip(curve)
            .map(|(&capacity, &value)| {
                format!("{:.1},{:.1}", self.x(f64::from(capacity)), self.y(value))
            })
            .collect();
        writeln!(
            svg,
            r##"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}" stroke-linejoin="round"><title>{name}</title></polyline>"##,
            points.join(" ")
        )
    }
}

/// Powers of ten, or if there are few, also twice and five times those.
fn decades(capacities: &[u32]) -> Vec<u32> {
    let (first, last) = (capacities[0], capacities[capacities.len() - 1]);
    let marks = |factors: &[u32]| {
        (0..=9)
            .flat_map(|power| {
                factors.iter().filter_map(move |&factor| 10u32.pow(power).checked_mul(factor))
            })
            .filter(|mark| (first..=last).contains(mark))
            .collect::<Vec<_>>()
    };
    let powers = marks(&[1]);
    if powers.len() >= 3 { powers } else { marks(&[1, 2, 5]) }
}

fn style(name: &str) -> (&'static str, &'static str) {
    let known = STYLES.iter().find(|(known, ..)| *known == name);
    known.map_or(("#555555", ""), |&(_, colour, dashes)| (colour, dashes))
}

/// Names beside the upper panel, worst first, ordered by the whole curve.
fn legend(svg: &mut String, curves: &[Curve]) -> fmt::Result {
    let mut order: Vec<&Curve> = curves.iter().collect();
    order.sort_by(|(_, a), (_, b)| b.iter().sum::<f64>().total_cmp(&a.iter().sum::<f64>()));
    for (row, (name, _)) in (0u32..).zip(order) {
        let (colour, dashes) = style(name);
        let y = TOP + 12.0 + f64::from(row) * 24.0;
        let (from, to) = (RIGHT + 24.0, RIGHT + 56.0);
        writeln!(
            svg,
            r##"<line x1="{from}" x2="{to}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="3" stroke-dasharray="{dashes}"/>"##
        )?;
        writeln!(svg, r##"<text x="{}" y="{}">{name}</text>"##, to + 10.0, y + 4.5)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_curve_is_in_both_panels_and_opt_in_the_first() {
        let curves = [
            ("lru", vec![0.8, 0.5, 0.1]),
            ("sieve", vec![0.7, 0.4, 0.1]),
            (OPT, vec![0.6, 0.3, 0.1]),
        ];
        let svg = draw("a <trace> & more", &[10, 100, 1000], &curves);
        assert_eq!(svg.matches("<polyline").count(), 5);
        assert!(svg.contains("a &lt;trace> &amp; more"));
        assert!(svg.trim_end().ends_with("</svg>"));
    }

    #[test]
    fn a_single_capacity_and_a_cache_without_misses_can_be_drawn() {
        let svg = draw("t", &[1], &[(OPT, vec![0.0])]);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!([0.83, 0.2, 0.21, 3.1, 0.0].map(nice_ceiling), [1.0, 0.2, 0.25, 4.0, 1.0]);
        assert_eq!(decades(&[7, 5000]), [10, 100, 1000]);
        assert_eq!(decades(&[7, 60]), [10, 20, 50]);
    }
}
