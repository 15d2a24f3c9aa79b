//! What became of an address space's areas, told by the difference of two looks at them.
//!
//! [`changes`] answers the calls that lead from one list of [`Area`]s to another. Neighbour: [`crate::recorder`], which looks
//! whenever user code is about to run; a range that one call unmapped and mapped again as it was shows no difference.

use crate::event::{Event, Sharing};
use kilburn_addr::VirtAddr;

/// A mapped range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Area {
    /// First address.
    pub start: u64,
    /// The address after the last.
    pub end: u64,
    /// `PROT_*`
    pub prot: u64,
    /// Whether a child shares it.
    pub sharing: Sharing,
}

/// What has to be done to a range.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Unmap,
    Protect(u64),
    Map(u64, Sharing),
}

impl Change {
    fn between(old: Option<&Area>, new: Option<&Area>) -> Option<Self> {
        match (old, new) {
            (Some(_), None) => Some(Self::Unmap),
            (Some(old), Some(new)) if old.sharing == new.sharing => {
                (old.prot != new.prot).then_some(Self::Protect(new.prot))
            }
            (_, Some(new)) => Some(Self::Map(new.prot, new.sharing)),
            (None, None) => None,
        }
    }

    fn event(self, start: u64, end: u64) -> Event {
        let (va, len) = (VirtAddr::new(start), end - start);
        match self {
            Self::Unmap => Event::Munmap { va, len },
            Self::Protect(prot) => Event::Mprotect { va, len, prot },
            Self::Map(prot, sharing) => Event::Mmap { va, len, prot, sharing },
        }
    }
}

/// The events that make `new` of `old`; both are in order and have no overlaps.
pub fn changes(old: &[Area], new: &[Area]) -> Vec<Event> {
    let same = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let (old, new) = (&old[same..], &new[same..]);
    let mut bounds: Vec<u64> =
        old.iter().chain(new).flat_map(|area| [area.start, area.end]).collect();
    bounds.sort_unstable();
    bounds.dedup();
    let (mut olds, mut news) = (old.iter().peekable(), new.iter().peekable());
    let mut events = Vec::new();
    // The change that grows, and where it began.
    let mut open: Option<(Change, u64, u64)> = None;
    for pair in bounds.windows(2) {
        let (start, end) = (pair[0], pair[1]);
        while olds.next_if(|area| area.end <= start).is_some() {}
        while news.next_if(|area| area.end <= start).is_some() {}
        let old = olds.peek().copied().filter(|area| area.start <= start);
        let new = news.peek().copied().filter(|area| area.start <= start);
        let change = Change::between(old, new);
        open = match (open, change) {
            (Some((held, from, to)), Some(change)) if held == change && to == start => {
                Some((held, from, end))
            }
            (held, change) => {
                events.extend(held.map(|(held, from, to)| held.event(from, to)));
                change.map(|change| (change, start, end))
            }
        };
    }
    events.extend(open.map(|(held, from, to)| held.event(from, to)));
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Areas drawn a letter a page: `r` and `w` private, `R` and `W` shared, `.` nothing; equal neighbours are one area.
    fn areas(drawn: &str) -> Vec<Area> {
        let mut areas: Vec<Area> = Vec::new();
        for (page, letter) in (0_u64..).zip(drawn.chars()).filter(|(_, letter)| *letter != '.') {
            let prot = if letter.eq_ignore_ascii_case(&'r') { 1 } else { 3 };
            let sharing = if letter.is_lowercase() { Sharing::Private } else { Sharing::Shared };
            let (start, end) = (page << 12, (page + 1) << 12);
            match areas.last_mut() {
                Some(last) if (last.end, last.prot, last.sharing) == (start, prot, sharing) => {
                    last.end = end;
                }
                _ => areas.push(Area { start, end, prot, sharing }),
            }
        }
        areas
    }

    /// The events as they are drawn: `map 2+1 w`.
    fn drawn(events: &[Event]) -> Vec<String> {
        let pages = |va: VirtAddr, len: u64| format!("{}+{}", va.vpn(), len >> 12);
        let letter = |prot| if prot == 1 { 'r' } else { 'w' };
        events
            .iter()
            .map(|event| match *event {
                Event::Mmap { va, len, prot, sharing: Sharing::Private } => {
                    format!("map {} {}", pages(va, len), letter(prot))
                }
                Event::Mmap { va, len, prot, sharing: Sharing::Shared } => {
                    format!("map {} {}", pages(va, len), letter(prot).to_ascii_uppercase())
                }
                Event::Munmap { va, len } => format!("unmap {}", pages(va, len)),
                Event::Mprotect { va, len, prot } => {
                    format!("protect {} {}", pages(va, len), letter(prot))
                }
                other => panic!("no change of areas: {other:?}"),
            })
            .collect()
    }

    #[test]
    fn each_call_is_seen() {
        let cases: [(&str, &str, &[&str]); 9] = [
            ("", "..ww", &["map 2+2 w"]),
            ("rrww", "rrww", &[]),
            ("wwww", "w..w", &["unmap 1+2"]),
            ("wwww", "wrrw", &["protect 1+2 r"]),
            ("rrww", "rr..", &["unmap 2+2"]),
            ("ww..", "wwww", &["map 2+2 w"]),
            ("ww", "WW", &["map 0+2 W"]),
            ("wr.w", "rrr.", &["protect 0+1 r", "map 2+1 r", "unmap 3+1"]),
            ("w.rr", ".w.r", &["unmap 0+1", "map 1+1 w", "unmap 2+1"]),
        ];
        for (old, new, expected) in cases {
            assert_eq!(drawn(&changes(&areas(old), &areas(new))), expected, "{old} {new}");
        }
    }

    proptest! {
        #[test]
        fn the_events_lead_from_one_to_the_other(old in "[rwRW.]{0,16}", new in "[rwRW.]{0,16}") {
            let mut pages: Vec<char> = format!("{old:.<16}").chars().collect();
            for event in changes(&areas(&old), &areas(&new)) {
                let (va, len, letter) = match event {
                    Event::Munmap { va, len } => (va, len, Some('.')),
                    Event::Mmap { va, len, prot, sharing } => {
                        let letter = if prot == 1 { 'r' } else { 'w' };
                        let shared = sharing == Sharing::Shared;
                        (va, len, Some(if shared { letter.to_ascii_uppercase() } else { letter }))
                    }
                    Event::Mprotect { va, len, prot } => {
                        let letter = if prot == 1 { 'r' } else { 'w' };
                        let first = va.vpn() as usize;
                        for page in &mut pages[first..first + (len >> 12) as usize] {
                            prop_assert_ne!(*page, '.');
                            *page = if page.is_lowercase() { letter } else { letter.to_ascii_uppercase() };
                        }
                        (va, 0, None)
                    }
                    other => panic!("no change of areas: {other:?}"),
                };
                if let Some(letter) = letter {
                    let first = va.vpn() as usize;
                    pages[first..first + (len >> 12) as usize].fill(letter);
                }
            }
            prop_assert_eq!(pages.into_iter().collect::<String>(), format!("{new:.<16}"));
        }
    }
}
