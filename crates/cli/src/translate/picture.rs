//! A translation as SVG: the bits of both addresses, cut into their fields, and what led from one to the other.
//!
//! ```text
//!   [ VPN bits            | VPO bits ]      fields above, TLB's fields below
//!         |  TLB, tables                    a line for each step
//!   [ PPN bits            | PPO bits ]      fields above, the cache's fields below
//! ```

use super::text::hex;
use super::{fault_name, moment};
use kilburn_addr::PAGE_SHIFT;
use kilburn_mmu::textbook::{Explanation, System};
use kilburn_paging::{Entry, HardwareFormat as _};
use kilburn_trace::replay::Moment;
use std::fmt::{self, Write as _};

const BOX: f64 = 26.0;
const LEFT: f64 = 30.0;
const ROW: f64 = 24.0;

/// Colours that stay apart for the colour-blind and in grey.
const PAGE: &str = "#cfe5f5";
const OFFSET: &str = "#fbe3bf";
const LINE: &str = "#333";

/// A field: its name, value and width in bits.
struct Field(&'static str, u64, u32);

/// The picture of `said`.
pub(crate) fn draw(system: &System, said: &Explanation) -> String {
    let format = system.config().format;
    let widest = f64::from(format.va_bits().max(format.pa_bits()));
    let mut page = Page { svg: String::new(), y: 40.0 };
    page.all(system, said).expect("a string takes any text");
    let (width, height) = ((2.0 * LEFT + widest * BOX).max(620.0), page.y + 10.0);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"monospace\" font-size=\"14\" fill=\"#111\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{}</svg>\n",
        page.svg
    )
}

/// The picture of an access of a real process.
pub(crate) fn draw_moment(said: &Moment) -> String {
    let widest = f64::from(moment::va_bits(said).max(PA_BITS));
    let mut page = Page { svg: String::new(), y: 40.0 };
    page.moment(said).expect("a string takes any text");
    let (width, height) = (2.0 * LEFT + widest * BOX, page.y + 10.0);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"monospace\" font-size=\"14\" fill=\"#111\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{}</svg>\n",
        page.svg
    )
}

/// Bits of a physical address that are drawn: those of RISC-V.
const PA_BITS: u32 = 56;

struct Page {
    svg: String,
    y: f64,
}

impl Page {
    fn all(&mut self, system: &System, said: &Explanation) -> fmt::Result {
        let format = system.config().format;
        let (va_bits, pa_bits) = (format.va_bits(), format.pa_bits());
        let shift = format.page_shift();
        self.line(&format!("virtual address {}", hex(said.va, va_bits)), "bold")?;
        let above = [Field("VPN", said.vpn, va_bits - shift), Field("VPO", said.vpo, shift)];
        let tlb = said.tlb.zip(system.tlb());
        let below: Vec<Field> = tlb.map_or(Vec::new(), |(look, tlb)| {
            let index = tlb.index_bits().min(va_bits - shift);
            vec![Field("TLBT", look.tag, va_bits - shift - index), Field("TLBI", look.index, index)]
        });
        self.bits(said.va, va_bits, shift, &above, &below)?;
        if let Some(look) = said.tlb {
            let outcome = match look.hit {
                Some(ppn) => format!("hit, PPN {}", hex(ppn, pa_bits - shift)),
                None => "miss".to_owned(),
            };
            self.line(&format!("TLB: {outcome}"), "normal")?;
        }
        for step in &said.walk {
            let what = match step.entry {
                Entry::Table(next) => format!("table at {:#x}", next.get() << shift),
                Entry::Leaf(leaf) => format!("PPN {}", hex(leaf.pfn.get(), pa_bits - shift)),
                Entry::None | Entry::Software(_) => "not valid".to_owned(),
            };
            let (level, index, at) = (step.level, step.index, step.entry_at.get());
            self.line(
                &format!("level {level}: index {index:#x}, PTE at {at:#x}: {what}"),
                "normal",
            )?;
        }
        let (ppn, pa) = match said.physical {
            Ok(physical) => physical,
            Err(fault) => return self.line(fault_name(fault), "bold"),
        };
        self.y += ROW / 2.0;
        self.line(&format!("physical address {}", hex(pa, pa_bits)), "bold")?;
        let above = [Field("PPN", ppn, pa_bits - shift), Field("PPO", said.vpo, shift)];
        let cache = said.cache.zip(system.cache()).zip(system.config().cache);
        let below: Vec<Field> = cache.map_or(Vec::new(), |((look, cache), (.., line))| {
            let index = cache.index_bits().min(pa_bits - line);
            vec![
                Field("CT", look.tag, pa_bits - line - index),
                Field("CI", look.index, index),
                Field("CO", look.offset, line),
            ]
        });
        self.bits(pa, pa_bits, shift, &above, &below)?;
        if let Some(look) = said.cache {
            self.line(&format!("cache: {}", if look.is_hit { "hit" } else { "miss" }), "normal")?;
        }
        let byte = said.byte.map_or("not given".to_owned(), |byte| hex(u64::from(byte), 8));
        self.line(&format!("byte: {byte}"), "bold")
    }

    fn moment(&mut self, moment: &Moment) -> fmt::Result {
        let said = &moment.said;
        let va_bits = moment::va_bits(moment);
        let (vpn, vpo) = moment::page_of(moment);
        self.line(&moment::who(moment), "bold")?;
        let above = [Field("VPN", vpn, va_bits - PAGE_SHIFT), Field("VPO", vpo, PAGE_SHIFT)];
        let small = said.tlb.iter().find(|look| look.page_shift == PAGE_SHIFT);
        let below: Vec<Field> = small.map_or(Vec::new(), |look| {
            let index = look.shape.0.ilog2();
            let tag = look.tag & ((1 << (va_bits - PAGE_SHIFT - index)) - 1);
            vec![Field("TLBT", tag, va_bits - PAGE_SHIFT - index), Field("TLBI", look.index, index)]
        });
        let va = moment.va.get() & ((1 << va_bits) - 1);
        self.bits(va, va_bits, PAGE_SHIFT, &above, &below)?;
        for line in moment::lines(moment) {
            self.line(&line, "normal")?;
        }
        let at = match said.physical {
            Ok((at, _)) => at.get(),
            Err(fault) => return self.line(moment::fault_name(fault), "bold"),
        };
        self.y += ROW / 2.0;
        self.line(&format!("physical address {at:#x}"), "bold")?;
        let above =
            [Field("PPN", at >> PAGE_SHIFT, PA_BITS - PAGE_SHIFT), Field("PPO", vpo, PAGE_SHIFT)];
        let below: Vec<Field> = said.caches.first().map_or(Vec::new(), |look| {
            let (sets, _, line) = look.shape;
            let index = sets.ilog2();
            vec![
                Field("CT", look.tag, PA_BITS - line - index),
                Field("CI", look.index, index),
                Field("CO", look.offset, line),
            ]
        });
        self.bits(at, PA_BITS, PAGE_SHIFT, &above, &below)?;
        for look in &said.caches {
            self.line(&moment::cache_line(look), "normal")?;
        }
        Ok(())
    }

    fn line(&mut self, text: &str, weight: &str) -> fmt::Result {
        writeln!(
            self.svg,
            "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"{weight}\">{text}</text>",
            self.y
        )?;
        self.y += ROW;
        Ok(())
    }

    /// The bits of an address, the offset in another colour, and fields above and below.
    fn bits(
        &mut self,
        value: u64,
        bits: u32,
        offset_bits: u32,
        above: &[Field],
        below: &[Field],
    ) -> fmt::Result {
        self.fields(above)?;
        let y = self.y - ROW / 2.0;
        for at in 0..bits {
            let bit = bits - 1 - at;
            let x = LEFT + f64::from(at) * BOX;
            let fill = if bit < offset_bits { OFFSET } else { PAGE };
            writeln!(
                self.svg,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{BOX}\" height=\"{BOX}\" fill=\"{fill}\" stroke=\"{LINE}\"/>\
                 <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                x + BOX / 2.0,
                y + 18.0,
                value >> bit & 1
            )?;
        }
        self.y += BOX + 6.0;
        self.fields(below)?;
        self.y += ROW / 2.0;
        Ok(())
    }

    fn fields(&mut self, fields: &[Field]) -> fmt::Result {
        let mut x = LEFT;
        for Field(name, value, bits) in fields {
            let width = f64::from(*bits) * BOX;
            if *bits > 0 {
                writeln!(
                    self.svg,
                    "<path d=\"M{} {} H{}\" stroke=\"{LINE}\"/>\
                     <text x=\"{}\" y=\"{}\" text-anchor=\"middle\" font-size=\"12\">{name} {}</text>",
                    x + 2.0,
                    self.y - 4.0,
                    x + width - 2.0,
                    x + width / 2.0,
                    self.y + 9.0,
                    hex(*value, *bits)
                )?;
            }
            x += width;
        }
        if !fields.is_empty() {
            self.y += ROW + 4.0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilburn_addr::Access;
    use kilburn_mmu::textbook::csapp;

    #[test]
    fn the_picture_names_every_field() {
        let mut system = csapp();
        let before = system.clone();
        let said = system.translate(0x3d4, Access::Read);
        let svg = draw(&before, &said);
        for text in
            ["VPN 0x0f", "TLBI 0x3", "TLBT 0x03", "PPN 0x0d", "CT 0x0d", "CI 0x5", "byte: 0x36"]
        {
            assert!(svg.contains(text), "{text}");
        }
        assert_eq!(svg.matches("<rect x=").count(), 14 + 12);
    }
}
