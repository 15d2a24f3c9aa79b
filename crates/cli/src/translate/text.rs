//! A translation, and what a system holds, as text.

use super::fault_name;
use kilburn_mmu::textbook::{Explanation, System};
use kilburn_paging::{Entry, HardwareFormat as _};
use std::io::{self, Write};

/// `value` in as many hexadecimal digits as `bits` need.
pub(crate) fn hex(value: u64, bits: u32) -> String {
    format!("{value:#0width$x}", width = bits.div_ceil(4).max(1) as usize + 2)
}

/// `value` in binary, in groups of four from the right.
fn binary(value: u64, bits: u32) -> String {
    let digits = format!("{value:0width$b}", width = bits as usize);
    let digits = &digits[digits.len() - bits as usize..];
    let mut grouped = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(4) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

/// Every step of one translation.
pub(crate) fn steps(out: &mut impl Write, system: &System, said: &Explanation) -> io::Result<()> {
    let format = system.config().format;
    let (va_bits, pa_bits) = (format.va_bits(), format.pa_bits());
    let page_shift = format.page_shift();
    let vpn_bits = va_bits - page_shift;
    writeln!(out, "virtual address   {}", hex(said.va, va_bits))?;
    if said.va.checked_shr(va_bits).unwrap_or(0) != 0 {
        return writeln!(
            out,
            "  {}: there are {va_bits} bits\n",
            fault_name(kilburn_mmu::textbook::TextbookFault::TooWide)
        );
    }
    writeln!(out, "  binary          {}", binary(said.va, va_bits))?;
    writeln!(out, "  VPN             {:<12} {vpn_bits} bits", hex(said.vpn, vpn_bits))?;
    writeln!(out, "  VPO             {:<12} {page_shift} bits", hex(said.vpo, page_shift))?;
    if let (Some(look), Some(tlb)) = (said.tlb, system.tlb()) {
        let index_bits = tlb.index_bits();
        writeln!(out, "TLB               {} sets of {}", tlb.sets().len(), tlb.sets()[0].len())?;
        writeln!(out, "  TLBI            {:<12} {index_bits} bits", hex(look.index, index_bits))?;
        let tag_bits = vpn_bits.saturating_sub(index_bits);
        writeln!(out, "  TLBT            {:<12} {tag_bits} bits", hex(look.tag, tag_bits))?;
        writeln!(out, "  TLB hit         {}", if look.hit.is_some() { "yes" } else { "no" })?;
    }
    if !said.walk.is_empty() {
        let entry_bytes = 1 << format.entry_shift();
        writeln!(
            out,
            "page tables       {} levels, entries of {entry_bytes} bytes",
            format.levels()
        )?;
    }
    for step in &said.walk {
        let what = match step.entry {
            Entry::Table(next) => {
                format!("table at {:#x}", next.get() << page_shift)
            }
            Entry::Leaf(leaf) => {
                format!("PPN {} {}", hex(leaf.pfn.get(), pa_bits - page_shift), rights(leaf.flags))
            }
            Entry::None | Entry::Software(_) => "not valid".to_owned(),
        };
        writeln!(
            out,
            "  level {}         index {}, PTE at {:#x}: {:#x}: {what}",
            step.level,
            hex(step.index as u64, format.index_bits(step.level)),
            step.entry_at.get(),
            step.raw
        )?;
    }
    let (ppn, pa) = match said.physical {
        Ok(physical) => physical,
        Err(fault) => return writeln!(out, "  {}\n", fault_name(fault)),
    };
    writeln!(out, "  page fault      no")?;
    writeln!(out, "physical address  {}", hex(pa, pa_bits))?;
    writeln!(out, "  binary          {}", binary(pa, pa_bits))?;
    let ppn_bits = pa_bits - page_shift;
    writeln!(out, "  PPN             {:<12} {ppn_bits} bits", hex(ppn, ppn_bits))?;
    writeln!(out, "  PPO             {:<12} {page_shift} bits", hex(said.vpo, page_shift))?;
    if let (Some(look), Some(cache), Some((.., line))) =
        (said.cache, system.cache(), system.config().cache)
    {
        let (sets, ways) = (cache.sets().len(), cache.sets()[0].len());
        let index_bits = cache.index_bits();
        let tag_bits = pa_bits.saturating_sub(line + index_bits);
        writeln!(out, "cache             {sets} sets of {ways}, lines of {} bytes", 1 << line)?;
        writeln!(out, "  CO              {:<12} {line} bits", hex(look.offset, line))?;
        writeln!(out, "  CI              {:<12} {index_bits} bits", hex(look.index, index_bits))?;
        writeln!(out, "  CT              {:<12} {tag_bits} bits", hex(look.tag, tag_bits))?;
        writeln!(out, "  cache hit       {}", if look.is_hit { "yes" } else { "no" })?;
    }
    match said.byte {
        Some(byte) => writeln!(out, "byte              {}\n", hex(u64::from(byte), 8)),
        None => writeln!(out, "byte              in memory; its value is not given\n"),
    }
}

fn rights(flags: kilburn_paging::LeafFlags) -> String {
    use kilburn_paging::LeafFlags as F;
    [(F::READ, "READ"), (F::WRITE, "WRITE")]
        .into_iter()
        .filter(|(flag, _)| flags.contains(*flag))
        .map(|(_, name)| name)
        .chain((!flags.contains(F::USER)).then_some("SUP"))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Most entries of anything that are printed.
const SHOWN: usize = 256;

/// What TLB, page table and cache hold.
pub(crate) fn contents(out: &mut impl Write, system: &System) -> io::Result<()> {
    let format = system.config().format;
    let ppn_bits = format.pa_bits() - format.page_shift();
    if let Some(tlb) = system.tlb() {
        let tag_bits = (format.va_bits() - format.page_shift()).saturating_sub(tlb.index_bits());
        writeln!(out, "TLB: tag and PPN of each way\n")?;
        for (index, ways) in tlb.sets().iter().enumerate().take(SHOWN) {
            let ways: Vec<String> = ways
                .iter()
                .map(|way| {
                    let ppn = way.kept.map_or("-".into(), |ppn| hex(ppn, ppn_bits));
                    format!("{} {ppn:<6}", hex(way.tag, tag_bits))
                })
                .collect();
            writeln!(out, "  set {index:>3}   {}", ways.join("   "))?;
        }
    }
    writeln!(out, "\npage table: valid entries among the first {SHOWN} pages\n")?;
    let vpn_bits = format.va_bits() - format.page_shift();
    let pages = 1_u64.checked_shl(vpn_bits).unwrap_or(u64::MAX);
    let valid = (0..pages.min(SHOWN as u64)).filter_map(|vpn| Some((vpn, system.mapped(vpn)?)));
    for (vpn, ppn) in valid {
        writeln!(out, "  VPN {}   PPN {}", hex(vpn, vpn_bits), hex(ppn, ppn_bits))?;
    }
    if let (Some(cache), Some((.., line))) = (system.cache(), system.config().cache) {
        let tag_bits = format.pa_bits().saturating_sub(line + cache.index_bits());
        writeln!(out, "\ncache: tag and bytes of each way\n")?;
        for (index, ways) in cache.sets().iter().enumerate().take(SHOWN) {
            for way in ways {
                let byte =
                    |byte: &Option<u8>| byte.map_or("??".into(), |byte| format!("{byte:02x}"));
                let bytes = way.kept.as_ref().map_or("-".to_owned(), |bytes| {
                    bytes.iter().map(byte).collect::<Vec<String>>().join(" ")
                });
                writeln!(out, "  set {index:>3}   {}   {bytes}", hex(way.tag, tag_bits))?;
            }
        }
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilburn_addr::Access;
    use kilburn_mmu::textbook::csapp;

    #[test]
    fn the_books_example_reads_as_in_the_book() {
        let mut system = csapp();
        let before = system.clone();
        let said = system.translate(0x3d4, Access::Read);
        let mut text = Vec::new();
        steps(&mut text, &before, &said).unwrap();
        let text = String::from_utf8(text).unwrap();
        for line in [
            "virtual address   0x03d4",
            "  binary          00 0011 1101 0100",
            "  VPN             0x0f         8 bits",
            "  TLBI            0x3          2 bits",
            "  TLBT            0x03         6 bits",
            "  TLB hit         yes",
            "physical address  0x354",
            "  PPN             0x0d         6 bits",
            "  CO              0x0          2 bits",
            "  CI              0x5          4 bits",
            "  CT              0x0d         6 bits",
            "  cache hit       yes",
            "byte              0x36",
        ] {
            assert!(text.lines().any(|found| found == line), "{line:?} in\n{text}");
        }
    }
}
