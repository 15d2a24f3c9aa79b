//! Things of one kind, named by number, in blocks that never move.
//!
//! A vector would do but for growing: copying everything takes time linear in its number, all of it
//! within the one call that brought the last.

use alloc::vec::Vec;
use core::ops::{Index, IndexMut};

/// Places, `BLOCK` of them at a time, a power of two. A block's memory is touched as its places are
/// first used.
pub(super) struct Arena<T, const BLOCK: usize> {
    blocks: Vec<Vec<T>>,
    free: Vec<u32>,
    /// Numbers given out so far.
    used: u32,
}

impl<T, const BLOCK: usize> Arena<T, BLOCK> {
    pub(super) const fn new() -> Self {
        const { assert!(BLOCK.is_power_of_two()) };
        Self { blocks: Vec::new(), free: Vec::new(), used: 0 }
    }

    /// Block and index of a place.
    #[inline]
    fn locate(number: u32) -> (usize, usize) {
        (number as usize / BLOCK, number as usize % BLOCK)
    }

    /// What has this number, if there ever was anything.
    #[inline]
    pub(super) fn get(&self, number: u32) -> Option<&T> {
        let (block, index) = Self::locate(number);
        self.blocks.get(block)?.get(index)
    }

    /// Places in use.
    pub(super) fn len(&self) -> usize {
        self.used as usize - self.free.len()
    }

    /// Puts `value` into a free place; its number.
    pub(super) fn place(&mut self, value: T) -> u32 {
        if let Some(number) = self.free.pop() {
            self[number] = value;
            return number;
        }
        let number = self.used;
        self.used = number.checked_add(1).expect("fewer than 2^32 things");
        let (block, _) = Self::locate(number);
        if block == self.blocks.len() {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        self.blocks[block].push(value);
        number
    }

    /// Lets a place be used again; what is in it stays there until then.
    pub(super) fn free(&mut self, number: u32) {
        self.free.push(number);
    }

    /// Takes something out, puts `empty` there, and lets the place be used again.
    pub(super) fn take(&mut self, number: u32, empty: T) -> T {
        self.free.push(number);
        core::mem::replace(&mut self[number], empty)
    }
}

impl<T, const BLOCK: usize> Index<u32> for Arena<T, BLOCK> {
    type Output = T;

    #[inline]
    fn index(&self, number: u32) -> &T {
        let (block, index) = Self::locate(number);
        &self.blocks[block][index]
    }
}

impl<T, const BLOCK: usize> IndexMut<u32> for Arena<T, BLOCK> {
    #[inline]
    fn index_mut(&mut self, number: u32) -> &mut T {
        let (block, index) = Self::locate(number);
        &mut self.blocks[block][index]
    }
}
