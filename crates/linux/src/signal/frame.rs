//! Signal frames as riscv64 Linux builds them (arch/riscv/kernel/signal.c: `setup_rt_frame`,
//! `sys_rt_sigreturn`).
//!
//! ```text
//!    0  siginfo_t                      128
//!  128  ucontext_t                     960
//!  128    uc_flags, uc_link              8 +  8
//!  144    uc_stack {sp, flags, size}    24
//!  168    uc_sigmask + padding         128
//!  304    sc_regs: pc, x1 .. x31       256      (mcontext is aligned to 16)
//!  560    sc_fpregs: f0 .. f31, fcsr   260 of 528
//! 1076      reserved, must be 0          4
//! 1080      END header: magic, size      8
//! 1088
//! ```

use crate::signal::action::{SaFlags, SigAction};
use crate::signal::info::{SIGINFO_BYTES, SigInfo};
use crate::signal::{SigSet, Signal};
use crate::task::{AltStack, Task};
use kilburn_addr::{Errno, VirtAddr};
use kilburn_riscv::Regs;

/// Bytes of a frame: what `AT_MINSIGSTKSZ` announces.
pub(crate) const FRAME_BYTES: usize = 1088;

const UCONTEXT: usize = SIGINFO_BYTES;
const UC_STACK: usize = UCONTEXT + 16;
const UC_SIGMASK: usize = UCONTEXT + 40;
const SC_REGS: usize = UCONTEXT + 176;
const SC_FPREGS: usize = SC_REGS + 256;
const SC_FCSR: usize = SC_FPREGS + 256;
const SC_RESERVED: usize = SC_FPREGS + 516;
const SC_END: usize = SC_FPREGS + 520;

fn put(frame: &mut [u8; FRAME_BYTES], at: usize, value: u64) {
    frame[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn get(frame: &[u8; FRAME_BYTES], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&frame[at..at + 8]);
    u64::from_le_bytes(bytes)
}

fn get_u32(frame: &[u8; FRAME_BYTES], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&frame[at..at + 4]);
    u32::from_le_bytes(bytes)
}

/// What is kept in a frame beside the siginfo.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Context {
    pub(crate) regs: Regs,
    pub(crate) altstack: AltStack,
    pub(crate) mask: SigSet,
}

/// The bytes of a frame.
pub(crate) fn encode(info: &SigInfo, context: &Context) -> [u8; FRAME_BYTES] {
    let mut frame = [0; FRAME_BYTES];
    frame[..SIGINFO_BYTES].copy_from_slice(&info.to_bytes());
    put(&mut frame, UC_STACK, context.altstack.base);
    frame[UC_STACK + 8..UC_STACK + 12].copy_from_slice(&context.altstack.flags.to_le_bytes());
    put(&mut frame, UC_STACK + 16, context.altstack.size);
    put(&mut frame, UC_SIGMASK, context.mask.bits());
    put(&mut frame, SC_REGS, context.regs.pc);
    for i in 1..32 {
        put(&mut frame, SC_REGS + i * 8, context.regs.x[i]);
    }
    for i in 0..32 {
        put(&mut frame, SC_FPREGS + i * 8, context.regs.f[i]);
    }
    frame[SC_FCSR..SC_FCSR + 4].copy_from_slice(&context.regs.fcsr.to_le_bytes());
    frame
}

/// What a frame says, after the handler may have changed anything in it.
///
/// # Errors
/// EINVAL when fields that must be zero are not: there is a register extension we did not save.
pub(crate) fn decode(frame: &[u8; FRAME_BYTES]) -> Result<Context, Errno> {
    if get_u32(frame, SC_RESERVED) != 0 || get(frame, SC_END) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut regs = Regs::new();
    regs.pc = get(frame, SC_REGS);
    for i in 1..32 {
        regs.x[i] = get(frame, SC_REGS + i * 8);
    }
    for i in 0..32 {
        regs.f[i] = get(frame, SC_FPREGS + i * 8);
    }
    // Only the architected bits exist.
    regs.fcsr = get_u32(frame, SC_FCSR) & 0xff;
    let altstack = AltStack {
        base: get(frame, UC_STACK),
        flags: get_u32(frame, UC_STACK + 8),
        size: get(frame, UC_STACK + 16),
    };
    Ok(Context { regs, altstack, mask: SigSet::from_bits(get(frame, UC_SIGMASK)) })
}

impl Task {
    /// Whether `sp` lies on the alternate stack (Linux `on_sig_stack`).
    pub(crate) fn on_altstack(&self, sp: u64) -> bool {
        let stack = self.signals.altstack.get();
        stack.flags & AltStack::AUTODISARM == 0 && stack.contains(sp)
    }

    /// Where the frame goes; `None` when an alternate stack in use would overflow.
    fn frame_address(&self, sp: u64, action: &SigAction) -> Option<u64> {
        let stack = self.signals.altstack.get();
        let bytes = FRAME_BYTES as u64;
        if self.on_altstack(sp) && !self.on_altstack(sp.wrapping_sub(bytes)) {
            return None;
        }
        let enter =
            action.flags.contains(SaFlags::ONSTACK) && stack.size != 0 && !self.on_altstack(sp);
        let top = if enter { stack.base.wrapping_add(stack.size) } else { sp };
        Some(top.wrapping_sub(bytes) & !0xf)
    }

    /// Builds the frame of `action`'s handler and turns the registers to it; the handler's mask
    /// is set by the caller.
    ///
    /// # Errors
    /// EFAULT when the stack cannot take it: the process gets SIGSEGV instead.
    pub(crate) async fn push_frame(
        &self,
        info: &SigInfo,
        action: &SigAction,
        mask: SigSet,
    ) -> Result<(), Errno> {
        let sigreturn = self.kernel().sigreturn_address(self).ok_or(Errno::EFAULT)?;
        let regs = self.regs.borrow().clone();
        let sp = regs.x[Regs::SP];
        let at = self.frame_address(sp, action).ok_or(Errno::EFAULT)?;
        let altstack = self.signals.altstack.get();
        let frame = encode(info, &Context { regs: *regs, altstack, mask });
        self.copy_out(VirtAddr::new(at), &frame).await?;
        if altstack.flags & AltStack::AUTODISARM != 0 {
            self.signals.altstack.set(AltStack::NONE);
        }
        let mut regs = self.regs.borrow_mut();
        regs.x[Regs::RA] = sigreturn.get();
        regs.x[Regs::SP] = at;
        regs.x[Regs::A0] = u64::from(info.signal.number());
        regs.x[Regs::A0 + 1] = at;
        regs.x[Regs::A0 + 2] = at + UCONTEXT as u64;
        regs.pc = action.handler;
        Ok(())
    }

    /// Goes back to where a handler interrupted: `rt_sigreturn`. A frame that is not one makes
    /// SIGSEGV.
    pub(crate) async fn pop_frame(&self) {
        self.restart.replace(None);
        let sp = self.regs.borrow().x[Regs::SP];
        let mut frame = [0; FRAME_BYTES];
        let context = match self.copy_in(VirtAddr::new(sp), &mut frame).await {
            Ok(()) => decode(&frame),
            Err(errno) => Err(errno),
        };
        let Ok(context) = context else {
            self.force(SigInfo::kernel(Signal::SIGSEGV));
            return;
        };
        self.signals.blocked.set(context.mask.minus(Signal::UNBLOCKABLE));
        **self.regs.borrow_mut() = context.regs;
        // restore_altstack: an alternate stack that is refused is not an error.
        let _ = self.set_altstack(context.altstack, sp);
    }

    /// Installs an alternate stack, for a task whose stack pointer is `sp` (Linux
    /// `do_sigaltstack`).
    ///
    /// # Errors
    /// EPERM while running on the one there is, EINVAL, ENOMEM when it is too small.
    pub(crate) fn set_altstack(&self, stack: AltStack, sp: u64) -> Result<(), Errno> {
        if self.on_altstack(sp) {
            return Err(Errno::EPERM);
        }
        let mode = stack.flags & !AltStack::AUTODISARM;
        if mode != AltStack::DISABLE && mode != AltStack::ONSTACK && mode != 0 {
            return Err(Errno::EINVAL);
        }
        let installed = if mode == AltStack::DISABLE {
            AltStack { base: 0, size: 0, flags: stack.flags }
        } else {
            if stack.size < MINSIGSTKSZ {
                return Err(Errno::ENOMEM);
            }
            stack
        };
        self.signals.altstack.set(installed);
        Ok(())
    }
}

/// `MINSIGSTKSZ` of the kernel's own check.
const MINSIGSTKSZ: u64 = 2048;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::info::code;

    fn context() -> Context {
        let mut regs = Regs::new();
        for i in 1..32 {
            regs.x[i] = i as u64 * 0x0101_0101;
        }
        for i in 0..32 {
            regs.f[i] = u64::MAX - i as u64;
        }
        regs.pc = 0x1_2345;
        regs.fcsr = 0x61;
        let altstack = AltStack { base: 0x1000, flags: 1, size: 0x4000 };
        Context { regs, altstack, mask: SigSet::from_bits(0xf0f0) }
    }

    #[test]
    fn a_frame_that_nobody_changed_gives_back_what_went_in() {
        let info = SigInfo::fault(Signal::SIGBUS, code::BUS_ADRERR, 0x10);
        let frame = encode(&info, &context());
        assert_eq!(decode(&frame), Ok(context()));
        // Offsets a C program's ucontext_t uses on riscv64.
        assert_eq!(get(&frame, 128 + 40), 0xf0f0);
        assert_eq!(get(&frame, 128 + 176), 0x1_2345);
        assert_eq!(get(&frame, 128 + 176 + 8), 0x0101_0101);
        assert_eq!(get_u32(&frame, 128 + 176 + 256 + 256), 0x61);
    }

    #[test]
    fn a_frame_with_an_unknown_extension_is_refused() {
        let info = SigInfo::kernel(Signal::SIGUSR1);
        let mut frame = encode(&info, &context());
        frame[SC_END] = 1;
        assert_eq!(decode(&frame), Err(Errno::EINVAL));
        let mut frame = encode(&info, &context());
        frame[SC_RESERVED] = 1;
        assert_eq!(decode(&frame), Err(Errno::EINVAL));
    }
}
