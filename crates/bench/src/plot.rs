//! Pictures of what was measured, as SVG: lines over logarithmic axes, and bars.

use std::fmt::{self, Write as _};

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 600.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 400.0;

/// Colours that stay apart for the colour-blind.
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a3db8", "#000000"];

/// A line: its name, and points of positive numbers, in order.
pub struct Series {
    /// What the legend says.
    pub name: String,
    /// Where it goes.
    pub points: Vec<(f64, f64)>,
}

/// Text as XML has it.
struct Escaped<'t>(&'t str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// Decades that hold all of `values`.
fn decades(values: impl Iterator<Item = f64>) -> (i32, i32) {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values.filter(|value| *value > 0.0) {
        low = low.min(value.log10());
        high = high.max(value.log10());
    }
    if low > high {
        return (0, 1);
    }
    let (low, high) = (low.floor() as i32, high.ceil() as i32);
    (low, high.max(low + 1))
}

/// Lines over two logarithmic axes: a power of the number of things is a straight line.
///
/// # Panics
/// Never: a string takes any text.
pub fn lines(title: &str, x_name: &str, y_name: &str, series: &[Series]) -> String {
    let mut svg = String::new();
    draw_lines(&mut svg, title, (x_name, y_name), series).expect("a string takes any text");
    svg
}

fn head(svg: &mut String, title: &str, (width, height): (f64, f64)) -> fmt::Result {
    writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"28\" font-size=\"15\" font-weight=\"bold\">{}</text>",
        Escaped(title)
    )
}

fn draw_lines(
    svg: &mut String,
    title: &str,
    (x_name, y_name): (&str, &str),
    series: &[Series],
) -> fmt::Result {
    let points = || series.iter().flat_map(|one| &one.points);
    let (x_low, x_high) = decades(points().map(|point| point.0));
    let (y_low, y_high) = decades(points().map(|point| point.1));
    let along =
        |value: f64, low: i32, high: i32| (value.log10() - f64::from(low)) / f64::from(high - low);
    let x = |value: f64| LEFT + (RIGHT - LEFT) * along(value, x_low, x_high);
    let y = |value: f64| BOTTOM - (BOTTOM - TOP) * along(value, y_low, y_high);
    let longest = series.iter().map(|one| one.name.chars().count()).max().unwrap_or(0);
    let width = WIDTH.max(RIGHT + 60.0 + 7.0 * longest as f64);
    head(svg, title, (width, HEIGHT))?;
    for decade in x_low..=x_high {
        let at = x(10_f64.powi(decade));
        writeln!(
            svg,
            "<path d=\"M{at:.1} {TOP} V{BOTTOM}\" stroke=\"#ddd\"/>\
             <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">10<tspan dy=\"-5\" font-size=\"9\">{decade}</tspan></text>",
            BOTTOM + 20.0
        )?;
    }
    for decade in y_low..=y_high {
        let at = y(10_f64.powi(decade));
        writeln!(
            svg,
            "<path d=\"M{LEFT} {at:.1} H{RIGHT}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            at + 4.0,
            10_f64.powi(decade)
        )?;
    }
    writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\
         <text x=\"16\" y=\"{}\" transform=\"rotate(-90 16 {})\" text-anchor=\"middle\">{}</text>",
        (LEFT + RIGHT) / 2.0,
        BOTTOM + 42.0,
        Escaped(x_name),
        (TOP + BOTTOM) / 2.0,
        (TOP + BOTTOM) / 2.0,
        Escaped(y_name)
    )?;
    for ((number, one), colour) in (0_u32..).zip(series).zip(COLOURS.iter().cycle()) {
        let path: Vec<String> = one
            .points
            .iter()
            .filter(|point| point.0 > 0.0 && point.1 > 0.0)
            .map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1)))
            .collect();
        let legend = TOP + 10.0 + f64::from(number) * 20.0;
        writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <path d=\"M{} {legend} h24\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <text x=\"{}\" y=\"{}\">{}</text>",
            path.join(" "),
            RIGHT + 20.0,
            RIGHT + 50.0,
            legend + 4.0,
            Escaped(&one.name)
        )?;
        for point in one.points.iter().filter(|point| point.0 > 0.0 && point.1 > 0.0) {
            writeln!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>",
                x(point.0),
                y(point.1)
            )?;
        }
    }
    writeln!(svg, "</svg>")
}

/// A bar for each ratio, on a logarithmic axis with 1 in the middle: to the right of it ours is better.
///
/// # Panics
/// Never: a string takes any text.
pub fn ratios(title: &str, bars: &[(String, f64)]) -> String {
    let mut svg = String::new();
    draw_ratios(&mut svg, title, bars).expect("a string takes any text");
    svg
}

fn draw_ratios(svg: &mut String, title: &str, bars: &[(String, f64)]) -> fmt::Result {
    const NAMES: f64 = 430.0;
    const END: f64 = 860.0;
    let height = TOP + 22.0 * bars.len() as f64 + 40.0;
    let (low, high) = decades(bars.iter().map(|bar| bar.1).chain([0.5, 2.0]));
    let x = |value: f64| {
        NAMES + (END - NAMES) * (value.log10() - f64::from(low)) / f64::from(high - low)
    };
    head(svg, title, (WIDTH, height))?;
    for decade in low..=high {
        let at = x(10_f64.powi(decade));
        let colour = if decade == 0 { "#444" } else { "#ddd" };
        writeln!(
            svg,
            "<path d=\"M{at:.1} {TOP} V{}\" stroke=\"{colour}\"/><text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            height - 34.0,
            height - 18.0,
            10_f64.powi(decade)
        )?;
    }
    for (number, (name, ratio)) in (0_u32..).zip(bars) {
        let y = TOP + 6.0 + f64::from(number) * 22.0;
        let (from, to) = (x(ratio.min(1.0)), x(ratio.max(1.0)));
        let colour = if *ratio >= 1.0 { COLOURS[0] } else { COLOURS[1] };
        writeln!(
            svg,
            "<rect x=\"{from:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"14\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            (to - from).max(1.0),
            NAMES - 60.0,
            y + 11.0,
            Escaped(name)
        )?;
    }
    writeln!(svg, "</svg>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_is_a_straight_line() {
        let points = vec![(100.0, 1.0), (1_000.0, 10.0), (10_000.0, 100.0)];
        let svg = lines("a < b", "areas", "ns", &[Series { name: "one & two".into(), points }]);
        assert!(svg.contains("a &lt; b") && svg.contains("one &amp; two"));
        assert!(svg.contains("80.0,400.0 340.0,225.0 600.0,50.0"), "{svg}");
    }

    #[test]
    fn bars_go_to_the_better_side() {
        let svg = ratios("t", &[("worse".into(), 0.5), ("better".into(), 4.0)]);
        assert!(svg.contains(COLOURS[0]) && svg.contains(COLOURS[1]));
        assert_eq!(lines("nothing", "x", "y", &[]).matches("<polyline").count(), 0);
    }
}
