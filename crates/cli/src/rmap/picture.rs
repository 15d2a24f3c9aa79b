//! Ways back as SVG: from pages down through the tree to areas and processes.
//!
//! ```text
//!   |##########....|          the file's pages: in memory, how often mapped
//!        [0..9] up to 9
//!       /            \        the tree, its nodes in order from left to right;
//!   [0..3]         [4..9]     a bar in each: which part of the file
//!     :      :        :
//!   area    area     area     where it lies, and its rights
//!      \    /         |
//!     process      process
//! ```
//!
//! A family of `AnonVma`s is drawn alike: a node for each, with all of its areas.

use super::text::{count, page, title, users};
use super::told::{Anonymous, Area, File, Told, root, runs};
use crate::svg::Escaped;
use std::fmt::{self, Write as _};

const LEFT: f64 = 24.0;
/// Room for one area.
const SLOT: f64 = 204.0;
const BOX: f64 = 188.0;
/// From one level of the tree to the next.
const LEVEL: f64 = 74.0;
const NODE: f64 = 48.0;

/// Colours that stay apart for the colour-blind and in grey: pages by number of mappings.
const CACHED: &str = "#e3e3e3";
const ONCE: &str = "#9ecae1";
const MORE: &str = "#3182bd";
const DIRTY: &str = "#d95f02";
const NODES: &str = "#fbe3bf";
const AREAS: &str = "#cfe5f5";
const PROCESSES: &str = "#d9ead3";

/// A node as it is drawn.
struct Node {
    depth: usize,
    parent: Option<usize>,
    title: String,
    /// Which areas hang from it, as places in the list.
    areas: std::ops::Range<usize>,
    /// Its first slot; it has as many as it has areas, at least one.
    slot: usize,
}

impl Node {
    fn middle(&self) -> f64 {
        LEFT + (self.slot as f64 + self.areas.len().max(1) as f64 / 2.0) * SLOT
    }
}

/// The picture of `told`.
pub(crate) fn draw(told: &Told) -> String {
    let mut svg = String::new();
    let (width, height) = match told {
        Told::File(file) => file_picture(&mut svg, told, file),
        Told::Anonymous(anon) => anon_picture(&mut svg, told, anon),
    }
    .expect("a string takes any text");
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"monospace\" font-size=\"12\" fill=\"#111\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{svg}</svg>\n"
    )
}

fn heading(svg: &mut String, told: &Told) -> fmt::Result {
    let title = title(told);
    writeln!(svg, "<text x=\"{LEFT}\" y=\"28\" font-size=\"15\">{}</text>", Escaped(&title))
}

type Size = Result<(f64, f64), fmt::Error>;

fn file_picture(svg: &mut String, told: &Told, file: &File) -> Size {
    heading(svg, told)?;
    let mut nodes = Vec::new();
    for (at, area) in file.areas.iter().enumerate() {
        let title = format!("[{}..{}] up to {}", area.first, area.last, area.max_last);
        nodes.push(Node { depth: 0, parent: None, title, areas: at..at + 1, slot: at });
    }
    let mut to_do: Vec<(usize, usize, Option<usize>)> =
        root(&file.areas).map(|root| (root, 0, None)).into_iter().collect();
    let mut is_placed = vec![false; nodes.len()];
    while let Some((at, depth, parent)) = to_do.pop() {
        // What a machine says is not trusted to be a tree.
        if at >= nodes.len() || std::mem::replace(&mut is_placed[at], true) {
            continue;
        }
        (nodes[at].depth, nodes[at].parent) = (depth, parent);
        let children = [file.areas[at].left, file.areas[at].right];
        to_do.extend(children.into_iter().flatten().map(|child| (child, depth + 1, Some(at))));
    }
    let width = LEFT * 2.0 + nodes.len().max(4) as f64 * SLOT;
    strip(svg, file, width - LEFT * 2.0)?;
    let areas: Vec<&Area> = file.areas.iter().collect();
    let all = (0, file.size_pages.max(1));
    let drawing = Drawing { nodes, areas, all, hex: false };
    let height = drawing.draw(svg, 118.0, |mm| users(&file.processes, mm))?;
    Ok((width, height))
}

fn anon_picture(svg: &mut String, told: &Told, anon: &Anonymous) -> Size {
    heading(svg, told)?;
    let mut nodes: Vec<Node> = Vec::new();
    let mut areas: Vec<&Area> = Vec::new();
    let mut slot = 0;
    for node in &anon.anon_vmas {
        let parent = node.parent.filter(|&parent| parent < nodes.len());
        let depth = parent.map_or(0, |parent| nodes[parent].depth + 1);
        let title = format!("AnonVma {}: {}", node.id, count(node.pages.len(), "page"));
        let from = areas.len();
        areas.extend(&node.areas);
        nodes.push(Node { depth, parent, title, areas: from..areas.len(), slot });
        slot += node.areas.len().max(1);
    }
    let first = areas.iter().map(|area| area.first).min().unwrap_or(0);
    let last = areas.iter().map(|area| area.last).max().unwrap_or(0);
    let drawing = Drawing { nodes, areas, all: (first, last + 1 - first), hex: true };
    let height = drawing.draw(svg, 50.0, |mm| users(&anon.processes, mm))?;
    Ok((LEFT * 2.0 + slot.max(4) as f64 * SLOT, height))
}

/// The file's pages from left to right.
fn strip(svg: &mut String, file: &File, width: f64) -> fmt::Result {
    let pages = file.size_pages.max(1) as f64;
    let (y, height) = (42.0, 22.0);
    writeln!(
        svg,
        "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"#fff\" stroke=\"#333\"/>"
    )?;
    for run in runs(&file.pages) {
        let x = LEFT + run.first.page as f64 / pages * width;
        let part = ((run.last - run.first.page + 1) as f64 / pages * width).max(0.5);
        let fill = match run.first.maps {
            0 => CACHED,
            1 => ONCE,
            _ => MORE,
        };
        writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{y}\" width=\"{part:.1}\" height=\"{height}\" fill=\"{fill}\" stroke=\"#fff\" \
             stroke-width=\"0.5\"><title>pages {}..{}, mapped {} times</title></rect>",
            run.first.page, run.last, run.first.maps
        )?;
        if run.first.is_dirty {
            let y = y + height - 5.0;
            writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{y}\" width=\"{part:.1}\" height=\"5\" fill=\"{DIRTY}\"/>"
            )?;
        }
    }
    let legend = [
        ("#fff", "not in memory"),
        (CACHED, "in memory, not mapped"),
        (ONCE, "mapped once"),
        (MORE, "more often"),
        (DIRTY, "dirty"),
    ];
    let mut x = LEFT;
    for (fill, text) in legend {
        writeln!(
            svg,
            "<rect x=\"{x}\" y=\"76\" width=\"12\" height=\"12\" fill=\"{fill}\" stroke=\"#333\"/>\
             <text x=\"{}\" y=\"86\">{text}</text>",
            x + 17.0
        )?;
        x += 44.0 + text.len() as f64 * 7.3;
    }
    Ok(())
}

struct Drawing<'t> {
    nodes: Vec<Node>,
    areas: Vec<&'t Area>,
    /// First page of what the bars show, and how many.
    all: (u64, u64),
    hex: bool,
}

impl Drawing<'_> {
    /// Tree, areas and processes from `top` on; where it ends.
    fn draw(
        &self,
        svg: &mut String,
        top: f64,
        users: impl Fn(u64) -> String,
    ) -> Result<f64, fmt::Error> {
        let y = |depth: usize| top + depth as f64 * LEVEL;
        let levels = self.nodes.iter().map(|node| node.depth + 1).max().unwrap_or(0);
        let areas_y = y(levels) + 8.0;
        for node in &self.nodes {
            if let Some(parent) = node.parent {
                let parent = &self.nodes[parent];
                let (from, to) = (y(parent.depth) + NODE, y(node.depth));
                line(svg, (parent.middle(), from), (node.middle(), to), "")?;
            }
            for (i, _) in node.areas.clone().enumerate() {
                let x = LEFT + ((node.slot + i) as f64 + 0.5) * SLOT;
                let dotted = "stroke-dasharray=\"2 4\"";
                line(svg, (node.middle(), y(node.depth) + NODE), (x, areas_y), dotted)?;
            }
        }
        let mut at = Vec::new();
        for node in &self.nodes {
            self.node(svg, node, y(node.depth))?;
            for (i, area) in self.areas[node.areas.clone()].iter().enumerate() {
                let x = LEFT + ((node.slot + i) as f64 + 0.5) * SLOT;
                self.area(svg, area, (x, areas_y))?;
                at.push((area.mm, x));
            }
        }
        processes(svg, &at, (areas_y + NODE, areas_y + NODE + 64.0), users)?;
        Ok(areas_y + NODE + 64.0 + 56.0)
    }

    /// A node: what it says, and which part of the whole it is.
    fn node(&self, svg: &mut String, node: &Node, y: f64) -> fmt::Result {
        let x = node.middle() - BOX / 2.0;
        frame(svg, (x, y), NODE, NODES)?;
        writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            node.middle(),
            y + 19.0,
            Escaped(&node.title)
        )?;
        let (start, pages) = (self.all.0, self.all.1 as f64);
        for area in &self.areas[node.areas.clone()] {
            let from = (area.first.saturating_sub(start) as f64 / pages).min(1.0);
            let to = ((area.last + 1).saturating_sub(start) as f64 / pages).min(1.0);
            let room = BOX - 16.0;
            writeln!(
                svg,
                "<rect x=\"{}\" y=\"{}\" width=\"{room}\" height=\"8\" fill=\"none\" stroke=\"#999\"/>\
                 <rect x=\"{:.1}\" y=\"{}\" width=\"{:.1}\" height=\"8\" fill=\"#555\"/>",
                x + 8.0,
                y + 30.0,
                x + 8.0 + from * room,
                y + 30.0,
                ((to - from) * room).max(1.0)
            )?;
        }
        Ok(())
    }

    fn area(&self, svg: &mut String, area: &Area, (middle, y): (f64, f64)) -> fmt::Result {
        frame(svg, (middle - BOX / 2.0, y), NODE, AREAS)?;
        let what = if self.hex {
            format!("{} {}..{}", area.rights, page(area.first, true), page(area.last, true))
        } else {
            let kind = if area.rights.ends_with('s') { "shared" } else { "private" };
            format!("{} {kind}, mm {}", area.rights, area.mm)
        };
        let range = format!("{:x}-{:x}", area.start, area.end);
        for (i, text) in [what, range].iter().enumerate() {
            writeln!(
                svg,
                "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                y + 19.0 + i as f64 * 18.0,
                Escaped(text)
            )?;
        }
        Ok(())
    }
}

/// The processes of address spaces whose areas are `at` these places, each below the middle of them.
fn processes(
    svg: &mut String,
    at: &[(u64, f64)],
    (from, y): (f64, f64),
    users: impl Fn(u64) -> String,
) -> fmt::Result {
    let mut spaces: Vec<u64> = at.iter().map(|(mm, _)| *mm).collect();
    spaces.sort_unstable();
    spaces.dedup();
    let own = |mm: u64| at.iter().filter(move |(of, _)| *of == mm).map(|(_, x)| *x);
    let mut placed: Vec<(f64, u64)> = spaces
        .into_iter()
        .map(|mm| (own(mm).sum::<f64>() / own(mm).count().max(1) as f64, mm))
        .collect();
    placed.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut free = LEFT + BOX / 2.0;
    for (mean, mm) in placed {
        let middle = mean.max(free);
        free = middle + SLOT;
        for x in own(mm) {
            line(svg, (x, from), (middle, y), "")?;
        }
        frame(svg, (middle - BOX / 2.0, y), 32.0, PROCESSES)?;
        writeln!(
            svg,
            "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            y + 20.0,
            Escaped(&users(mm))
        )?;
    }
    Ok(())
}

fn frame(svg: &mut String, (x, y): (f64, f64), height: f64, fill: &str) -> fmt::Result {
    writeln!(
        svg,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{BOX}\" height=\"{height}\" rx=\"4\" fill=\"{fill}\" stroke=\"#333\"/>"
    )
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), how: &str) -> fmt::Result {
    writeln!(
        svg,
        "<path d=\"M{} {} L{} {}\" fill=\"none\" stroke=\"#333\" {how}/>",
        from.0, from.1, to.0, to.1
    )
}
