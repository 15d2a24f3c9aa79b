//! The lines of `/proc/PID/maps`, and the blocks of `/proc/PID/smaps`, that lie in a window.
//!
//! ```text
//! 1000000000-1000002000 rw-p 00000000 00:00 0                  [heap]
//! ^ start    ^ end      ^ rights ^ offset ^ device and inode   ^ name
//! ```
//!
//! Device and inode are skipped: they belong to the kernel that made the file. Nothing is
//! allocated, as every step of every case is compared line by line.

use crate::case::Window;
use std::fmt;

/// An area as a line shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AreaLine<'a> {
    /// First address.
    pub start: u64,
    /// First address past it.
    pub end: u64,
    /// `rwxp` or the like.
    pub rights: &'a str,
    /// Offset into the file, in bytes.
    pub offset: u64,
    /// What stands at the end of the line.
    pub name: &'a str,
}

impl<'a> AreaLine<'a> {
    /// The area that `line` shows; `None` when it is another kind of line.
    pub fn parse(line: &'a str) -> Option<Self> {
        let (start, rest) = hex(line, b'-')?;
        let (end, rest) = hex(rest, b' ')?;
        let (rights, rest) = rest.split_once(' ')?;
        let (offset, rest) = hex(rest, b' ')?;
        let (_device, rest) = rest.split_once(' ')?;
        let (_inode, name) = rest.split_once(' ').unwrap_or((rest, ""));
        Some(Self { start, end, rights, offset, name: name.trim_matches(' ') })
    }

    /// Whether part of it lies in `window`.
    pub fn is_in(&self, window: Window) -> bool {
        self.end > window.start && self.start < window.end()
    }
}

impl fmt::Display for AreaLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { start, end, rights, offset, name } = self;
        write!(f, "{start:x}-{end:x} {rights} {offset:08x} {name}")
    }
}

/// The hexadecimal number that `text` begins with, and what comes after the `past` behind it.
fn hex(text: &str, past: u8) -> Option<(u64, &str)> {
    let mut value = 0_u64;
    for (at, byte) in text.bytes().enumerate() {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ if byte == past && at > 0 => return Some((value, &text[at + 1..])),
            _ => return None,
        };
        value = value << 4 | u64::from(digit);
    }
    None
}

/// The areas of `maps` that lie in `window`, in order.
pub fn lines(maps: &str, window: Window) -> impl Iterator<Item = AreaLine<'_>> {
    maps.lines()
        .filter_map(AreaLine::parse)
        .skip_while(move |area| area.end <= window.start)
        .take_while(move |area| area.start < window.end())
}

/// The areas of `maps` that lie in `window`, a line each, to be read by a person.
pub fn text(maps: &str, window: Window) -> String {
    lines(maps, window).map(|area| format!("{area}\n")).collect()
}

/// What smaps says of an area.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AreaPages<'a> {
    /// Its first line.
    pub area: AreaLine<'a>,
    /// The lines below: a name and what stands behind the colon.
    pub fields: Vec<(&'a str, &'a str)>,
}

/// The blocks of `smaps` that lie in `window`, in order.
pub fn blocks(smaps: &str, window: Window) -> Vec<AreaPages<'_>> {
    let mut blocks: Vec<AreaPages<'_>> = Vec::new();
    let mut inside = false;
    for line in smaps.lines() {
        if let Some(area) = AreaLine::parse(line) {
            inside = area.is_in(window);
            if inside {
                blocks.push(AreaPages { area, fields: Vec::with_capacity(24) });
            }
        } else if let (true, Some(block), Some((name, value))) =
            (inside, blocks.last_mut(), line.split_once(':'))
        {
            block.fields.push((name, value.trim_matches(' ')));
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
1000-1000000000 ---p 00000000 00:01 7                          /memfd:kilburn (deleted)
1000000000-1000002000 rw-p 00000000 00:00 0                              [heap]
1000005000-1000006000 r--s 00003000 00:01 8                              /memfd:kilburn (deleted)
1000060000-7ffffffff000 ---p 00000000 00:01 7                  /memfd:kilburn (deleted)
";

    #[test]
    fn lines_outside_the_window_are_left_out() {
        assert_eq!(
            text(MAPS, Window::NARROW),
            "1000000000-1000002000 rw-p 00000000 [heap]\n\
             1000005000-1000006000 r--s 00003000 /memfd:kilburn (deleted)\n"
        );
        assert_eq!(AreaLine::parse("Rss: 4 kB"), None);
        assert_eq!(AreaLine::parse(""), None);
    }

    #[test]
    fn blocks_have_the_fields_below_their_line() {
        let smaps = MAPS.replace('\n', "\nRss:      4 kB\nVmFlags: rd wr \n");
        let blocks = blocks(&smaps, Window::NARROW);
        assert_eq!(blocks.len(), 2);
        assert_eq!(blocks[1].area.offset, 0x3000);
        assert_eq!(blocks[1].fields, [("Rss", "4 kB"), ("VmFlags", "rd wr")]);
    }
}
