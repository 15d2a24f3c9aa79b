//! Stage two: what smaps, pagemap, mincore and status say, compared.

use super::compare::Swap;
use super::declared;
use kilburn_model::areas::{AreaPages, blocks};
use kilburn_model::{Counts, Pages, Window};
use std::fmt::Write as _;

/// Two sides' words for what differs.
pub(super) type Difference = (String, String);

/// What processes count before a case begins: an oracle's child has more areas than the window's.
#[derive(Clone, Copy, Default)]
pub(super) struct Bases {
    pub(super) kernel: Counts,
    pub(super) ours: Counts,
}

/// The first difference between what the two sides say of a process's pages.
pub(super) fn difference(
    kernel: &Pages,
    ours: &Pages,
    window: Window,
    bases: Bases,
    swap: Swap,
) -> Option<Difference> {
    smaps(kernel, ours, window)
        .or_else(|| pagemap(&kernel.pagemap, &ours.pagemap, window))
        .or_else(|| mincore(kernel, ours, window, swap))
        .or_else(|| counts(kernel.counts, ours.counts, window, bases))
}

fn smaps(kernel: &Pages, ours: &Pages, window: Window) -> Option<Difference> {
    let (kernel, ours) = (blocks(&kernel.smaps, window), blocks(&ours.smaps, window));
    if kernel.len() != ours.len() {
        return Some((format!("{} areas in smaps", kernel.len()), format!("{}", ours.len())));
    }
    kernel.iter().zip(&ours).find_map(|(kernel, ours)| block(kernel, ours))
}

fn block(kernel: &AreaPages<'_>, ours: &AreaPages<'_>) -> Option<Difference> {
    let (mut theirs, mut mine) = (String::new(), String::new());
    for (name, value) in &kernel.fields {
        let other = ours.fields.iter().find(|(other, _)| other == name).map(|(_, value)| *value);
        if declared::smaps_field(name, value, other.unwrap_or("")) {
            continue;
        }
        let _ = write!(theirs, "\n{name}: {value}");
        let _ = write!(mine, "\n{name}: {}", other.unwrap_or("absent"));
    }
    for (name, value) in &ours.fields {
        if !kernel.fields.iter().any(|(other, _)| other == name) {
            let _ = write!(theirs, "\n{name}: absent");
            let _ = write!(mine, "\n{name}: {value}");
        }
    }
    (!theirs.is_empty())
        .then(|| (format!("{}{theirs}", kernel.area), format!("{}{mine}", ours.area)))
}

fn pagemap(kernel: &[u64], ours: &[u64], window: Window) -> Option<Difference> {
    let mask = declared::PAGEMAP_COMPARED;
    let differs = |(_, (kernel, ours)): &(u64, (&u64, &u64))| *kernel & mask != *ours & mask;
    let (page, (kernel, ours)) = (0..).zip(kernel.iter().zip(ours)).find(differs)?;
    let text = |entry: &u64| {
        let bits = [(63, "present"), (62, "swapped"), (61, "file or shared"), (58, "guard")];
        let bits = bits.into_iter().chain([(57, "write-protected"), (56, "mapped once")]);
        let names: Vec<&str> =
            bits.filter(|(bit, _)| entry >> bit & 1 != 0).map(|(_, name)| name).collect();
        format!("pagemap of {:#x}: {}", window.page(page), names.join(", "))
    };
    Some((text(kernel), text(ours)))
}

fn mincore(kernel: &Pages, ours: &Pages, window: Window, swap: Swap) -> Option<Difference> {
    let differs = |(page, (theirs, mine)): &(u64, (&u8, &u8))| {
        theirs != mine && !declared::maybe_in_swap_cache(kernel.pagemap[*page as usize], swap)
    };
    let (page, (kernel, ours)) =
        (0..).zip(kernel.mincore.iter().zip(&ours.mincore)).find(differs)?;
    let text = |resident| format!("mincore of {:#x}: {resident}", window.page(page));
    Some((text(kernel), text(ours)))
}

fn counts(kernel: Counts, ours: Counts, window: Window, bases: Bases) -> Option<Difference> {
    let (bases_kernel, bases_ours) = (bases.kernel.named(), bases.ours.named());
    for (at, (name, kernel)) in kernel.named().into_iter().enumerate() {
        let (_, ours) = ours.named()[at];
        // mlockall(MCL_CURRENT) locks what is outside the window, which differs in size.
        let window_kbytes = (window.end() - window.start) >> 10;
        if name == "VmLck" && kernel.min(ours) > window_kbytes {
            continue;
        }
        let more = |now: u64, base: u64| now.wrapping_sub(base) as i64;
        let kernel = more(kernel, bases_kernel[at].1);
        let ours = more(ours, bases_ours[at].1);
        if kernel != ours {
            let text = |more| format!("{name}: {more:+} kB since the case began");
            return Some((text(kernel), text(ours)));
        }
    }
    None
}
