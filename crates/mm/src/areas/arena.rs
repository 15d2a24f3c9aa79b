//! Things of one kind, named by number, in blocks that never move.
//!
//! A vector would do but for growing: copying everything takes time linear in its number, all of it
//! within the one call that brought the last.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::{Index, IndexMut};

/// Places, `BLOCK` of them at a time: few enough that a small address space stays small.
pub(super) struct Arena<T, const BLOCK: usize> {
    blocks: Vec<Box<[T; BLOCK]>>,
    free: Vec<u32>,
    /// Numbers given out so far.
    used: u32,
}

impl<T, const BLOCK: usize> Arena<T, BLOCK> {
    pub(super) const fn new() -> Self {
        Self { blocks: Vec::new(), free: Vec::new(), used: 0 }
    }

    /// What has this number, if there ever was anything.
    #[inline]
    pub(super) fn get(&self, number: u32) -> Option<&T> {
        Some(&self.blocks.get(number as usize / BLOCK)?[number as usize % BLOCK])
    }

    /// Places in use.
    pub(super) fn len(&self) -> usize {
        self.used as usize - self.free.len()
    }
}

impl<T: Default, const BLOCK: usize> Arena<T, BLOCK> {
    /// Puts `value` into a free place; its number.
    pub(super) fn place(&mut self, value: T) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            let number = self.used;
            self.used = number.checked_add(1).expect("fewer than 2^32 things");
            if number as usize / BLOCK == self.blocks.len() {
                self.blocks.push(Box::new(core::array::from_fn(|_| T::default())));
            }
            number
        });
        self[number] = value;
        number
    }

    /// Lets a place be used again; what is in it stays there until then.
    pub(super) fn free(&mut self, number: u32) {
        self.free.push(number);
    }

    /// Takes something out, and lets its place be used again.
    pub(super) fn take(&mut self, number: u32) -> T {
        self.free.push(number);
        core::mem::take(&mut self[number])
    }
}

impl<T, const BLOCK: usize> Index<u32> for Arena<T, BLOCK> {
    type Output = T;

    #[inline]
    fn index(&self, number: u32) -> &T {
        &self.blocks[number as usize / BLOCK][number as usize % BLOCK]
    }
}

impl<T, const BLOCK: usize> IndexMut<u32> for Arena<T, BLOCK> {
    #[inline]
    fn index_mut(&mut self, number: u32) -> &mut T {
        &mut self.blocks[number as usize / BLOCK][number as usize % BLOCK]
    }
}
