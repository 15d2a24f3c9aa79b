//! Ways back as text: the tree with its areas and processes, then runs of pages.

use super::told::{AnonVma, Anonymous, Area, File, Page, Process, Told, root, runs};
use crate::observe::printable;
use std::fmt::Write as _;

/// Entries named for one run of pages.
const PLACES_MAX: usize = 6;

/// All of it.
pub(crate) fn text(told: &Told) -> String {
    let mut out = String::new();
    match told {
        Told::File(file) => of_file(&mut out, file),
        Told::Anonymous(anon) => of_anon(&mut out, anon),
    }
    out
}

/// What is said above everything else.
pub(crate) fn title(told: &Told) -> String {
    match told {
        Told::File(file) => {
            let dirty = file.pages.iter().filter(|page| page.is_dirty).count();
            format!(
                "{}: {} of {} in memory ({dirty} dirty); {}",
                printable(&file.path),
                file.pages.len(),
                count(file.size_pages as usize, "page"),
                count(file.areas.len(), "area"),
            )
        }
        Told::Anonymous(anon) => {
            let sum = |of: fn(&AnonVma) -> usize| anon.anon_vmas.iter().map(of).sum::<usize>();
            format!(
                "anonymous memory: {}, {}, {} in memory",
                count(anon.anon_vmas.len(), "AnonVma"),
                count(sum(|node| node.areas.len()), "area"),
                count(sum(|node| node.pages.len()), "page"),
            )
        }
    }
}

/// So many of a thing.
pub(crate) fn count(n: usize, one: &str) -> String {
    format!("{n} {one}{}", if n == 1 { "" } else { "s" })
}

/// Who uses address space `mm`.
pub(crate) fn users(processes: &[Process], mm: u64) -> String {
    let users = processes.iter().filter(|process| process.mm == mm);
    let named: Vec<String> =
        users.map(|process| format!("{} {}", process.pid, printable(&process.name))).collect();
    if named.is_empty() { "no process".to_owned() } else { named.join(", ") }
}

fn of_file(out: &mut String, file: &File) {
    let _ = writeln!(out, "{}\n", title(&Told::File(file.clone())));
    if !file.areas.is_empty() {
        let head = ["[first..last] page", "up to", "rights", "mm", "addresses"];
        let _ = writeln!(
            out,
            "{:30} {:>8} {:6} {:>4} {:25} process",
            head[0], head[1], head[2], head[3], head[4]
        );
        let tree = Tree { areas: &file.areas, processes: &file.processes, hex: false };
        tree.below(out, root(&file.areas), (0, file.areas.len()), "", "");
        out.push('\n');
    }
    pages(out, &file.pages, &file.processes, false);
}

fn of_anon(out: &mut String, anon: &Anonymous) {
    let _ = writeln!(out, "{}", title(&Told::Anonymous(anon.clone())));
    for node in &anon.anon_vmas {
        let parent = node.parent.and_then(|at| anon.anon_vmas.get(at));
        let from = parent.map_or(String::new(), |parent| format!(", forked from {}", parent.id));
        let _ = writeln!(out, "\nAnonVma {}{from}", node.id);
        let tree = Tree { areas: &node.areas, processes: &anon.processes, hex: true };
        tree.below(out, root(&node.areas), (0, node.areas.len()), "  ", "  ");
        if node.areas.is_empty() {
            out.push_str("  its areas are gone, those forked from it may still map its pages\n");
        }
        pages(out, &node.pages, &anon.processes, true);
    }
}

struct Tree<'t> {
    areas: &'t [Area],
    processes: &'t [Process],
    /// Whether pages are page numbers of addresses.
    hex: bool,
}

impl Tree<'_> {
    /// A subtree, whose nodes lie in `within`; `lead` before its root, `rest` before what is below.
    fn below(
        &self,
        out: &mut String,
        at: Option<usize>,
        within: (usize, usize),
        lead: &str,
        rest: &str,
    ) {
        let Some(at) = at.filter(|at| (within.0..within.1).contains(at)) else { return };
        let area = &self.areas[at];
        let node = format!("{lead}[{}..{}]", page(area.first, self.hex), page(area.last, self.hex));
        let _ = writeln!(
            out,
            "{node:30} {:>8} {:6} {:>4} {:25} {}",
            page(area.max_last, self.hex),
            area.rights,
            area.mm,
            format!("{:x}-{:x}", area.start, area.end),
            users(self.processes, area.mm),
        );
        let (left, right) = ((area.left, (within.0, at)), (area.right, (at + 1, within.1)));
        let both = right.0.is_some();
        if left.0.is_some() {
            let (lead, below) = if both { ("├<", "│ ") } else { ("└<", "  ") };
            self.below(out, left.0, left.1, &format!("{rest}{lead}"), &format!("{rest}{below}"));
        }
        self.below(out, right.0, right.1, &format!("{rest}└>"), &format!("{rest}  "));
    }
}

/// A page's number.
pub(crate) fn page(number: u64, hex: bool) -> String {
    if hex { format!("{number:#x}") } else { number.to_string() }
}

fn pages(out: &mut String, listed: &[Page], processes: &[Process], hex: bool) {
    if listed.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "{:24} {:>5} {:5} mapped at (process: address)",
        "pages in memory", "maps", ""
    );
    for run in runs(listed) {
        let first = page(run.first.page, hex);
        let range = if run.first.page == run.last {
            first
        } else {
            format!("{first}..{}", page(run.last, hex))
        };
        let dirty = if run.first.is_dirty { "dirty" } else { "" };
        let _ = write!(out, "{range:24} {:>5} {dirty:5}", run.first.maps);
        for place in run.first.mapped_at.iter().take(PLACES_MAX) {
            let user = processes.iter().find(|process| process.mm == place.mm);
            let user = user.map_or("-".to_owned(), |process| process.pid.to_string());
            let _ = write!(out, " {user}:{:x}", place.address);
        }
        if run.first.mapped_at.len() > PLACES_MAX {
            let _ = write!(out, " and {} more", run.first.mapped_at.len() - PLACES_MAX);
        }
        out.push('\n');
    }
}
