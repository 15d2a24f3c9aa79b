//! Tables put into a document, between lines that name them; pictures beside it.
//!
//! ```text
//!   <!-- kilburn bench: sim -->
//!   what is between these lines is written anew
//!   <!-- end -->
//! ```

use super::Results;
use crate::failure::Failure;
use kilburn_bench::SUITES;
use kilburn_bench::plot::ratios;
use std::fs;
use std::path::Path;

const END: &str = "<!-- end -->";

fn start(name: &str) -> String {
    format!("<!-- kilburn bench: {name} -->")
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> Failure {
    let path = path.display().to_string();
    move |error| Failure::usage(format!("{path}: {error}"))
}

/// Whether `path` is a document with places for tables: asked before an hour of measuring.
pub(super) fn check(path: &Path) -> Result<(), Failure> {
    let text = fs::read_to_string(path).map_err(failed(path))?;
    if text.contains("<!-- kilburn bench: ") {
        Ok(())
    } else {
        let line = start("sim");
        Err(Failure::usage(format!("{}: no line such as {line}", path.display())))
    }
}

/// `text` with `table` in the place called `name`, if it has one.
fn replaced(text: &str, name: &str, table: &str) -> Option<String> {
    let start = start(name);
    let from = text.find(&start)? + start.len();
    let to = from + text[from..].find(END)?;
    Some(format!("{}\n{}\n{}", &text[..from], table.trim_end(), &text[to..]))
}

/// Writes what was measured into its places.
pub(super) fn write(path: &Path, results: &Results) -> Result<(), Failure> {
    let mut text = fs::read_to_string(path).map_err(failed(path))?;
    let mut tables: Vec<(&str, String)> = Vec::new();
    for suite in SUITES {
        if results.report.rows.iter().any(|line| line.suite == suite) {
            tables.push((suite, results.report.to_markdown(suite)));
        }
    }
    tables.extend(results.growths.iter().map(|growth| (growth.name, growth.to_markdown())));
    tables.extend(results.sharings.iter().map(|sharings| ("locks", sharings.to_markdown())));
    for (name, table) in tables {
        match replaced(&text, name, &table) {
            Some(new) => text = new,
            None => eprintln!("kilburn: {}: no place for `{name}`", path.display()),
        }
    }
    draw(&path.with_extension(""), results)?;
    fs::write(path, text).map_err(failed(path))
}

/// Draws what was measured into `folder`, which is made.
pub(super) fn draw(folder: &Path, results: &Results) -> Result<(), Failure> {
    fs::create_dir_all(folder).map_err(failed(folder))?;
    let put = |name: &str, svg: String| {
        let path = folder.join(format!("{name}.svg"));
        fs::write(&path, svg).map_err(failed(&path))
    };
    for suite in SUITES {
        let lines = results.report.rows.iter().filter(|line| line.suite == suite);
        let bars: Vec<(String, f64)> = lines
            .flat_map(|line| {
                let bar = |peer: &kilburn_bench::report::Peer| {
                    let name: String =
                        format!("{} / {}", line.name, peer.name).chars().take(60).collect();
                    (name, peer.ratio)
                };
                line.peers.iter().map(bar).collect::<Vec<_>>()
            })
            .collect();
        if !bars.is_empty() {
            put(suite, ratios(&format!("{suite}: so many times better than each peer"), &bars))?;
        }
    }
    if let Some(sharings) = &results.sharings {
        put("locks", sharings.to_svg())?;
    }
    results.growths.iter().try_for_each(|growth| put(growth.name, growth.to_svg()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_go_between_their_lines_and_nothing_else_changes() {
        let text = "a\n<!-- kilburn bench: sim -->\nold\n<!-- end -->\nb\n<!-- kilburn bench: lib -->\n<!-- end -->\n";
        let new = replaced(text, "sim", "| new |\n").expect("it has the place");
        assert_eq!(new, text.replace("old", "| new |"));
        assert_eq!(replaced(&new, "sim", "old").expect("again"), text);
        assert_eq!(replaced(text, "hart", "x"), None);
    }
}
