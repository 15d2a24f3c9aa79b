//! The first page of a file or device that swap lies in, as mkswap writes it (Linux 6.18
//! include/linux/swap.h: `union swap_header`).
//!
//! ```text
//!   0         1024      1028        1032         1036            4086        4096
//!   | anything | version | last page | bad pages | uuid, label... | SWAPSPACE2 |
//! ```

use kilburn_addr::{Errno, PAGE_SIZE};

/// At the end of the page.
const MAGIC: &[u8; 10] = b"SWAPSPACE2";
/// Where numbers of 32 bits lie.
const VERSION: usize = 1024;
const LAST_PAGE: usize = 1028;
const BAD_PAGES: usize = 1032;

/// How many pages after the first may be used, in a file of `file_pages` whole pages (Linux
/// `read_swap_header`).
///
/// # Errors
/// EINVAL when the page is no header, or does not fit the file.
pub(super) fn slots(page: &[u8; PAGE_SIZE as usize], file_pages: u64) -> Result<u32, Errno> {
    if !page.ends_with(MAGIC) {
        return Err(Errno::EINVAL);
    }
    let raw = |at: usize| {
        let bytes = page[at..].first_chunk().expect("well within the page");
        u32::from_le_bytes(*bytes)
    };
    // A machine of the other byte order may have written it.
    let foreign = raw(VERSION).swap_bytes() == 1;
    let number = |at| if foreign { raw(at).swap_bytes() } else { raw(at) };
    let last = number(LAST_PAGE);
    // Bad blocks are a device's; a file system keeps its files off them.
    let fits = number(VERSION) == 1 && last > 0 && number(BAD_PAGES) == 0;
    if fits && u64::from(last) < file_pages { Ok(last) } else { Err(Errno::EINVAL) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page(version: [u8; 4], last: [u8; 4], bad: [u8; 4], magic: &[u8; 10]) -> [u8; 4096] {
        let mut page = [0; 4096];
        page[VERSION..][..4].copy_from_slice(&version);
        page[LAST_PAGE..][..4].copy_from_slice(&last);
        page[BAD_PAGES..][..4].copy_from_slice(&bad);
        page[4086..].copy_from_slice(magic);
        page
    }

    fn le(version: u32, last: u32, bad: u32) -> [u8; 4096] {
        page(version.to_le_bytes(), last.to_le_bytes(), bad.to_le_bytes(), MAGIC)
    }

    #[test]
    fn a_header_names_the_last_page_and_that_lies_in_the_file() {
        assert_eq!(slots(&le(1, 15, 0), 16), Ok(15));
        assert_eq!(slots(&le(1, 7, 0), 16), Ok(7));
        for wrong in [le(1, 0, 0), le(1, 16, 0), le(1, u32::MAX, 0), le(0, 15, 0), le(2, 15, 0)] {
            assert_eq!(slots(&wrong, 16), Err(Errno::EINVAL));
        }
        assert_eq!(slots(&le(1, 15, 1), 16), Err(Errno::EINVAL), "bad pages");
        let old = page([1, 0, 0, 0], [15, 0, 0, 0], [0; 4], b"SWAP-SPACE");
        assert_eq!(slots(&old, 16), Err(Errno::EINVAL));
    }

    #[test]
    fn the_other_byte_order_is_read_as_well() {
        let foreign = page([0, 0, 0, 1], [0, 0, 0, 15], [0; 4], MAGIC);
        assert_eq!(slots(&foreign, 16), Ok(15));
        let bad = page([0, 0, 0, 1], [0, 0, 0, 15], [0, 0, 0, 1], MAGIC);
        assert_eq!(slots(&bad, 16), Err(Errno::EINVAL));
    }

    proptest! {
        #[test]
        fn no_page_has_slots_beyond_the_file(
            version: [u8; 4], last: [u8; 4], bad: [u8; 4], signed: bool, pages in 0_u64..1 << 33,
        ) {
            let magic = if signed { MAGIC } else { b"swapspace2" };
            if let Ok(slots) = slots(&page(version, last, bad, magic), pages) {
                prop_assert!(signed && slots > 0 && u64::from(slots) < pages);
            }
        }
    }
}
