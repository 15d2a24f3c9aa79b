//! Which textbook system is asked: a preset, or one's own by flags, filled by a seed or by hand.

use super::parse_number;
use crate::args::parse_size;
use crate::failure::Failure;
use clap::{Args, ValueEnum};
use kilburn_mmu::textbook::{Contents, System, SystemConfig, csapp};
use kilburn_paging::{HardwareFormat as _, LeafFlags, Textbook};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore as _, SeedableRng as _};

/// A system whose contents are known.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Preset {
    /// Bryant and O'Hallaron, section 9.6.4
    Csapp,
}

/// The flags that say which system.
#[derive(Args, Debug)]
pub(crate) struct SystemArgs {
    /// A system from a book
    #[arg(long, value_enum, conflicts_with_all = ["va_bits", "pa_bits", "page", "levels", "tlb", "cache", "map", "trace", "pid"])]
    pub(crate) preset: Option<Preset>,

    /// Bits of a virtual address
    #[arg(long, value_name = "N", default_value_t = 16, conflicts_with_all = ["trace", "pid"])]
    va_bits: u32,

    /// Bits of a physical address
    #[arg(long, value_name = "N", default_value_t = 16, conflicts_with_all = ["trace", "pid"])]
    pa_bits: u32,

    /// Bytes of a page: a power of two, K and M allowed
    #[arg(long, value_name = "SIZE", default_value = "256", value_parser = parse_power, conflicts_with_all = ["trace", "pid"])]
    page: u64,

    /// Levels of page tables
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with_all = ["trace", "pid"])]
    levels: u8,

    /// A TLB of SETS sets with WAYS ways [default: none]
    #[arg(long, value_name = "SETSxWAYS", value_parser = parse_tlb, conflicts_with_all = ["trace", "pid"])]
    tlb: Option<(usize, usize)>,

    /// A cache of SETS sets with WAYS ways of LINE bytes [default: none]
    #[arg(long, value_name = "SETSxWAYSxLINE", value_parser = parse_cache, conflicts_with_all = ["trace", "pid"])]
    cache: Option<(usize, usize, u32)>,

    /// Map a page to a frame, read and write for users; may be repeated
    #[arg(long, value_name = "VPN:PPN", value_parser = parse_map, conflicts_with_all = ["trace", "pid"])]
    map: Vec<(u64, u64)>,

    /// Seed of what is drawn
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
}

fn parse_power(text: &str) -> Result<u64, String> {
    let size = parse_size(text)?;
    if size.is_power_of_two() { Ok(size) } else { Err("a page is a power of two of bytes".into()) }
}

fn parse_shape<const N: usize>(text: &str, form: &str) -> Result<[usize; N], String> {
    let parts: Option<Vec<usize>> = text.split(['x', ':']).map(|part| part.parse().ok()).collect();
    parts.and_then(|parts| parts.try_into().ok()).ok_or_else(|| format!("numbers as in {form}"))
}

fn parse_tlb(text: &str) -> Result<(usize, usize), String> {
    parse_shape(text, "4x4: sets x ways").map(|[sets, ways]| (sets, ways))
}

fn parse_cache(text: &str) -> Result<(usize, usize, u32), String> {
    let [sets, ways, line] = parse_shape(text, "16x1x4: sets x ways x bytes of a line")?;
    if !line.is_power_of_two() {
        return Err("a line is a power of two of bytes".into());
    }
    Ok((sets, ways, line.ilog2()))
}

fn parse_map(text: &str) -> Result<(u64, u64), String> {
    let (vpn, ppn) = text.split_once(':').ok_or("a page and a frame as in 3:0x6")?;
    Ok((parse_number(vpn)?, parse_number(ppn)?))
}

const RIGHTS: LeafFlags = LeafFlags::READ.union(LeafFlags::WRITE).union(LeafFlags::USER);

impl SystemArgs {
    /// The system; pages of `addresses` are likely to be mapped in one that is drawn.
    pub(crate) fn build(&self, addresses: &[u64]) -> Result<System, Failure> {
        if self.preset == Some(Preset::Csapp) {
            return Ok(csapp());
        }
        let format = Textbook::new(self.va_bits, self.pa_bits, self.page.ilog2(), self.levels)
            .map_err(|error| Failure::usage(error.to_string()))?;
        let config = SystemConfig {
            format,
            tlb: self.tlb,
            cache: self.cache,
            contents: Contents::Seeded(self.seed),
        };
        let mut system = System::new(config).map_err(|error| Failure::usage(error.to_string()))?;
        if self.map.is_empty() {
            draw_pages(&mut system, self.seed, addresses);
        }
        for &(vpn, ppn) in &self.map {
            let fits = |number: u64, bits: u32| number.checked_shr(bits).unwrap_or(0) == 0;
            let page_shift = format.page_shift();
            if !fits(vpn, self.va_bits - page_shift) || !fits(ppn, self.pa_bits - page_shift) {
                return Err(Failure::usage(format!(
                    "--map {vpn:#x}:{ppn:#x}: page numbers have {} bits, frame numbers {}",
                    self.va_bits - page_shift,
                    self.pa_bits - page_shift
                )));
            }
            system.map(vpn, ppn, RIGHTS);
        }
        Ok(system)
    }
}

/// Maps pages by `seed`: of each address asked for three in four, and sixteen others.
pub(crate) fn draw_pages(system: &mut System, seed: u64, addresses: &[u64]) {
    let format = system.config().format;
    let page_shift = format.page_shift();
    let pages = u64::MAX >> (64 - (format.va_bits() - page_shift));
    let frames = u64::MAX >> (64 - (format.pa_bits() - page_shift));
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let asked = addresses.iter().map(|va| va >> page_shift).filter(|vpn| *vpn <= pages);
    let mut vpns: Vec<u64> = asked.filter(|_| rng.next_u64() % 4 != 0).collect();
    vpns.extend((0..16).map(|_| rng.next_u64() & pages));
    for vpn in &vpns {
        let read_only = rng.next_u64().is_multiple_of(8);
        let flags = if read_only { LeafFlags::READ | LeafFlags::USER } else { RIGHTS };
        system.map(*vpn, rng.next_u64() & frames, flags);
    }
    // Some of them were used before.
    for vpn in vpns.iter().filter(|vpn| **vpn % 3 != 0) {
        system.translate(vpn << page_shift, kilburn_addr::Access::Read);
    }
}
