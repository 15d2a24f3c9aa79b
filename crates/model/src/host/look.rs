//! What a process of a case reports of itself after a step: maps, and in stage two smaps, pagemap,
//! mincore and counts.
//!
//! As all that runs in the oracle's children: no allocation, no panics.

use super::ring::{Ring, Slot};
use super::sys::{self, close, open};
use crate::outcome::{Counts, NOT_MAPPED};
use kilburn_addr::PAGE_SIZE;
use std::ops::Range;
use std::sync::atomic::Ordering::SeqCst;

/// Bytes of maps lines that are read at most.
const MAPS_BYTES: usize = 24 << 10;
/// Bytes of smaps lines that are read at most.
const SMAPS_BYTES: usize = 120 << 10;
/// Pages of a window at most.
const WINDOW_PAGES: usize = crate::case::MAX_WINDOW_PAGES as usize;

/// The files of /proc/self that a process reads, and what it remembers of them.
pub(super) struct Looker {
    maps: i32,
    /// Bytes of maps that concerned the window last time.
    maps_len: usize,
    text: [u8; MAPS_BYTES],
}

impl Looker {
    pub(super) fn new() -> Self {
        Self { maps: open(c"/proc/self/maps"), maps_len: 0, text: [0; MAPS_BYTES] }
    }

    /// After a fork: what is open is about the parent.
    pub(super) fn reopen(&mut self) {
        close(self.maps);
        self.maps = open(c"/proc/self/maps");
    }

    /// Reports the areas.
    pub(super) fn report_areas(&mut self, ring: &Ring, slot: &Slot) {
        let end = ring.window_end.load(SeqCst);
        // The kernel makes no more lines than it is asked for, so ask for what there was last
        // time and a little more.
        let (len, window_len) = read_lines(self.maps, &mut self.text, self.maps_len + 160, end);
        self.maps_len = window_len;
        ring.append(&self.text[..len]);
        slot.maps_len.store(len as u64, SeqCst);
    }

    /// Reports the pages, after the areas.
    pub(super) fn report_pages(&self, ring: &Ring, slot: &Slot) {
        let window = ring.window_start.load(SeqCst)..ring.window_end.load(SeqCst);
        let smaps_len = report_smaps(ring, window);
        for (to, from) in slot.counts.iter().zip(read_counts()) {
            to.store(from, SeqCst);
        }
        slot.smaps_len.store(smaps_len as u64, SeqCst);
    }
}

/// Reports what the first process counts before its first step.
pub(super) fn report_base(ring: &Ring) {
    for (to, from) in ring.base.iter().zip(read_counts()) {
        to.store(from, SeqCst);
    }
}

/// Reads lines until one that begins with an area at or past `end`; answers how many bytes were
/// read up to and including that line, and how many of them came before it.
fn read_lines(fd: i32, text: &mut [u8], first_ask: usize, end: u64) -> (usize, usize) {
    let (mut len, mut line) = (0, 0);
    let mut ask = first_ask;
    loop {
        let room = (len + ask).min(text.len());
        let count = sys::pread(fd, &mut text[len..room], len as u64);
        if count <= 0 {
            return (len, line);
        }
        len += count as usize;
        ask = 4096;
        while let Some(size) = text[line..len].iter().position(|&byte| byte == b'\n') {
            let next = line + size + 1;
            if line_range(&text[line..next]).is_some_and(|(start, _)| start >= end) {
                return (next, line);
            }
            line = next;
        }
    }
}

/// The range a maps line begins with.
pub(super) fn line_range(line: &[u8]) -> Option<(u64, u64)> {
    let mut numbers = [0u64; 2];
    let mut at = 0;
    for &byte in line {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'-' if at == 0 => {
                at = 1;
                continue;
            }
            b' ' if at == 1 => return Some((numbers[0], numbers[1])),
            _ => return None,
        };
        numbers[at] = numbers[at] << 4 | u64::from(digit);
    }
    None
}

/// Smaps, then pagemap, then mincore of every area that smaps shows; how long smaps is.
#[inline(never)]
fn report_smaps(ring: &Ring, window: Range<u64>) -> usize {
    let mut text = [0; SMAPS_BYTES];
    let fd = open(c"/proc/self/smaps");
    let (_, len) = read_lines(fd, &mut text, 4096, window.end);
    close(fd);
    ring.append(&text[..len]);
    report_pagemap(ring, &window);
    report_mincore(ring, &window, &text[..len]);
    len
}

fn pages_of(window: &Range<u64>) -> usize {
    (((window.end - window.start) / PAGE_SIZE) as usize).min(WINDOW_PAGES)
}

#[inline(never)]
fn report_pagemap(ring: &Ring, window: &Range<u64>) {
    let mut entries = [0; WINDOW_PAGES * 8];
    let entries = &mut entries[..pages_of(window) * 8];
    let fd = open(c"/proc/self/pagemap");
    sys::pread(fd, entries, window.start / PAGE_SIZE * 8);
    close(fd);
    ring.append(entries);
}

/// Area by area: mincore answers all or nothing.
#[inline(never)]
fn report_mincore(ring: &Ring, window: &Range<u64>, smaps: &[u8]) {
    let mut resident = [NOT_MAPPED; WINDOW_PAGES];
    for (start, end) in smaps.split(|&byte| byte == b'\n').filter_map(line_range) {
        let (start, end) = (start.max(window.start), end.min(window.end));
        if start < end {
            let first = ((start - window.start) / PAGE_SIZE) as usize;
            let pages = ((end - start) / PAGE_SIZE) as usize;
            let resident = &mut resident[first..first + pages];
            let args = [start, end - start, resident.as_mut_ptr() as u64, 0, 0, 0];
            sys::call(libc::SYS_mincore, args);
            for page in resident {
                *page &= 1;
            }
        }
    }
    ring.append(&resident[..pages_of(window)]);
}

/// `VmSize` and so on, in kB.
fn read_counts() -> [u64; Counts::COUNT] {
    let mut text = [0; 4096];
    let fd = open(c"/proc/self/status");
    let len = sys::pread(fd, &mut text, 0).max(0) as usize;
    close(fd);
    let mut counts = [0; Counts::COUNT];
    for line in text[..len].split(|&byte| byte == b'\n') {
        let names: [(&[u8], usize); 6] = [
            (b"VmSize:", 0),
            (b"VmLck:", 1),
            (b"VmData:", 2),
            (b"VmStk:", 3),
            (b"VmExe:", 4),
            (b"VmLib:", 4),
        ];
        for (name, at) in names {
            if line.starts_with(name) {
                let digits = line.iter().filter(|byte| byte.is_ascii_digit());
                counts[at] += digits.fold(0, |sum, byte| sum * 10 + u64::from(byte - b'0'));
            }
        }
    }
    counts
}
