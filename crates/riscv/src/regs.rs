//! The registers of one task, as the kernel keeps them while the task does not run.

/// A task's registers. A hart borrows them for the length of a [`Hart::run`](crate::Hart::run).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Regs {
    /// Integer registers. `x[0]` is zero; what is put there is not looked at.
    pub x: [u64; 32],
    /// Floating-point registers, NaN-boxed where they hold single precision.
    pub f: [u64; 32],
    /// Program counter. Bit 0 is not looked at.
    pub pc: u64,
    /// Floating-point control and status: flags in bits 0 to 4, rounding mode in 5 to 7.
    pub fcsr: u32,
}

impl Regs {
    /// Index of `ra`, the return address, in [`Self::x`].
    pub const RA: usize = 1;
    /// Index of `sp`, the stack pointer.
    pub const SP: usize = 2;
    /// Index of `tp`, the thread pointer.
    pub const TP: usize = 4;
    /// Index of `a0`, first argument and result.
    pub const A0: usize = 10;
    /// Index of `a7`, the system call's number.
    pub const A7: usize = 17;

    /// All registers zero.
    pub const fn new() -> Self {
        Self { x: [0; 32], f: [0; 32], pc: 0, fcsr: 0 }
    }
}

impl Default for Regs {
    fn default() -> Self {
        Self::new()
    }
}
