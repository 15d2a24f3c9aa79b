//! The host's terminal as the guest's.
//!
//! [`Tty`] is one terminal, open at descriptors 0 to 2 and as `/dev/tty`, `/dev/console` and
//! `/dev/pts/0`. Settings and window size are the host's; session and foreground process group are
//! the guest's own. The settings found at the start come back when the machine ends.

use crate::fs::file::{FileOps, IoctlAnswer, IoctlCaller, IoctlRequest, OpenFile, PollEvents};
use crate::fs::pipe::FIONREAD;
use crate::fs::stdio::{HostInput, Standard, write_to_host};
use crate::sched::wait::WaitQueue;
use kilburn_addr::Errno;
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, QueueSelector,
    SpecialCodeIndex, Termios, Winsize,
};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

const TCGETS: u32 = 0x5401;
const TCSETS: u32 = 0x5402;
const TCSETSW: u32 = 0x5403;
const TCSETSF: u32 = 0x5404;
const TCSBRK: u32 = 0x5409;
const TCXONC: u32 = 0x540a;
const TCFLSH: u32 = 0x540b;
const TIOCSCTTY: u32 = 0x540e;
const TIOCGPGRP: u32 = 0x540f;
const TIOCSPGRP: u32 = 0x5410;
const TIOCOUTQ: u32 = 0x5411;
const TIOCGWINSZ: u32 = 0x5413;
const TIOCSWINSZ: u32 = 0x5414;
const TIOCNOTTY: u32 = 0x5422;
const TIOCGETD: u32 = 0x5424;
const TIOCGSID: u32 = 0x5429;

/// Control characters in `struct termios` of the kernel.
const NCCS: usize = 19;

fn errno(error: rustix::io::Errno) -> Errno {
    u16::try_from(error.raw_os_error()).map_or(Errno::EIO, Errno::from_number)
}

/// The codes in the order of the kernel's array.
fn special_codes() -> [(usize, SpecialCodeIndex); 17] {
    use SpecialCodeIndex as I;
    [
        (0, I::VINTR),
        (1, I::VQUIT),
        (2, I::VERASE),
        (3, I::VKILL),
        (4, I::VEOF),
        (5, I::VTIME),
        (6, I::VMIN),
        (7, I::VSWTC),
        (8, I::VSTART),
        (9, I::VSTOP),
        (10, I::VSUSP),
        (11, I::VEOL),
        (12, I::VREPRINT),
        (13, I::VDISCARD),
        (14, I::VWERASE),
        (15, I::VLNEXT),
        (16, I::VEOL2),
    ]
}

/// The guest's terminal.
pub(crate) struct Tty {
    /// A host descriptor of the terminal.
    host: Standard,
    input: Rc<HostInput>,
    /// Settings to restore.
    initial: RefCell<Option<Termios>>,
    /// The session whose controlling terminal this is; 0: none.
    session: Cell<u32>,
    /// Its foreground process group.
    foreground: Cell<u32>,
}

impl Tty {
    /// The terminal behind the host's `host`.
    pub(crate) fn new(host: Standard, input: Rc<HostInput>) -> Rc<Self> {
        let initial = RefCell::new(rustix::termios::tcgetattr(host.host()).ok());
        let (session, foreground) = (Cell::new(0), Cell::new(0));
        Rc::new(Self { host, input, initial, session, foreground })
    }

    /// Where its bytes come from.
    pub(crate) fn input(&self) -> &Rc<HostInput> {
        &self.input
    }

    /// Makes it the controlling terminal of a session.
    pub(crate) fn take(&self, session: u32, foreground: u32) {
        self.session.set(session);
        self.foreground.set(foreground);
    }

    /// The session whose controlling terminal this is; 0: none.
    pub(crate) fn session(&self) -> u32 {
        self.session.get()
    }

    /// The foreground process group.
    pub(crate) fn foreground(&self) -> u32 {
        self.foreground.get()
    }

    /// Gives the host its settings back.
    pub(crate) fn restore(&self) {
        if let Some(initial) = self.initial.take() {
            // The terminal may be gone; then there is nothing to restore.
            let _ = rustix::termios::tcsetattr(self.host.host(), OptionalActions::Now, &initial);
        }
    }

    fn settings(&self) -> Result<Vec<u8>, Errno> {
        let termios = rustix::termios::tcgetattr(self.host.host()).map_err(errno)?;
        let mut raw = Vec::with_capacity(36);
        for word in [
            termios.input_modes.bits(),
            termios.output_modes.bits(),
            termios.control_modes.bits(),
            termios.local_modes.bits(),
        ] {
            raw.extend_from_slice(&word.to_le_bytes());
        }
        raw.push(termios.line_discipline);
        let mut codes = [0; NCCS];
        for (at, index) in special_codes() {
            codes[at] = termios.special_codes[index];
        }
        raw.extend_from_slice(&codes);
        Ok(raw)
    }

    fn set_settings(&self, raw: &[u8], when: OptionalActions) -> Result<(), Errno> {
        let mut termios = rustix::termios::tcgetattr(self.host.host()).map_err(errno)?;
        let word =
            |at: usize| raw[at * 4..at * 4 + 4].iter().rev().fold(0, |v, b| v << 8 | u32::from(*b));
        termios.input_modes = InputModes::from_bits_retain(word(0));
        termios.output_modes = OutputModes::from_bits_retain(word(1));
        termios.control_modes = ControlModes::from_bits_retain(word(2));
        termios.local_modes = LocalModes::from_bits_retain(word(3));
        termios.line_discipline = raw[16];
        for (at, index) in special_codes() {
            termios.special_codes[index] = raw[17 + at];
        }
        rustix::termios::tcsetattr(self.host.host(), when, &termios).map_err(errno)
    }

    fn window(&self) -> Result<Vec<u8>, Errno> {
        let size = rustix::termios::tcgetwinsize(self.host.host()).map_err(errno)?;
        let fields = [size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel];
        Ok(fields.iter().flat_map(|field| field.to_le_bytes()).collect())
    }

    fn set_window(&self, raw: &[u8]) -> Result<(), Errno> {
        let field = |at: usize| u16::from_le_bytes([raw[at * 2], raw[at * 2 + 1]]);
        let size = Winsize {
            ws_row: field(0),
            ws_col: field(1),
            ws_xpixel: field(2),
            ws_ypixel: field(3),
        };
        rustix::termios::tcsetwinsize(self.host.host(), size).map_err(errno)
    }

    fn ours(&self, caller: IoctlCaller) -> Result<(), Errno> {
        if self.session.get() == caller.sid { Ok(()) } else { Err(Errno::ENOTTY) }
    }

    fn set_foreground(&self, caller: IoctlCaller, raw: &[u8]) -> Result<(), Errno> {
        self.ours(caller)?;
        let pgid = i32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]);
        let pgid = u32::try_from(pgid).map_err(|_| Errno::EINVAL)?;
        self.foreground.set(pgid);
        Ok(())
    }

    fn control(&self, request: IoctlRequest<'_>) -> Result<IoctlAnswer, Errno> {
        let caller = request.caller;
        let number = |n: u32| Ok(IoctlAnswer::Bytes(n.to_le_bytes().to_vec()));
        let done = |()| IoctlAnswer::Value(0);
        match request.command {
            TCGETS => self.settings().map(IoctlAnswer::Bytes),
            TCSETS => self.set_settings(request.input, OptionalActions::Now).map(done),
            TCSETSW => self.set_settings(request.input, OptionalActions::Drain).map(done),
            TCSETSF => self.set_settings(request.input, OptionalActions::Flush).map(done),
            TIOCGWINSZ => self.window().map(IoctlAnswer::Bytes),
            TIOCSWINSZ => self.set_window(request.input).map(done),
            TIOCGPGRP => {
                self.ours(caller)?;
                number(self.foreground.get())
            }
            TIOCSPGRP => self.set_foreground(caller, request.input).map(done),
            TIOCGSID => {
                self.ours(caller)?;
                number(self.session.get())
            }
            TIOCSCTTY => {
                if self.session.get() == caller.sid {
                    return Ok(IoctlAnswer::Value(0));
                }
                if caller.sid != caller.pid || self.session.get() != 0 {
                    return Err(Errno::EPERM);
                }
                self.take(caller.sid, caller.pgid);
                Ok(IoctlAnswer::Value(0))
            }
            TIOCNOTTY => {
                self.ours(caller)?;
                if caller.sid == caller.pid {
                    self.take(0, 0);
                }
                Ok(IoctlAnswer::Value(0))
            }
            TIOCGETD | TIOCOUTQ => number(0),
            FIONREAD => {
                let bytes = rustix::io::ioctl_fionread(self.host.host()).map_err(errno)?;
                number(bytes as u32)
            }
            TCFLSH => {
                let queue = match request.argument {
                    0 => QueueSelector::IFlush,
                    1 => QueueSelector::OFlush,
                    2 => QueueSelector::IOFlush,
                    _ => return Err(Errno::EINVAL),
                };
                rustix::termios::tcflush(self.host.host(), queue).map_err(errno).map(done)
            }
            TCSBRK => rustix::termios::tcdrain(self.host.host()).map_err(errno).map(done),
            TCXONC => Ok(IoctlAnswer::Value(0)),
            _ => Err(Errno::ENOTTY),
        }
    }
}

/// An open terminal. Writes go to the host stream it was opened for.
pub(crate) struct TtyFile {
    tty: Rc<Tty>,
    output: Standard,
}

impl TtyFile {
    /// An open file of `tty` that writes to the host's `output`.
    pub(crate) fn new(tty: &Rc<Tty>, output: Standard) -> Self {
        Self { tty: Rc::clone(tty), output }
    }
}

impl FileOps for TtyFile {
    fn is_stream(&self) -> bool {
        true
    }

    fn read(&self, _file: &OpenFile, _pos: u64, into: &mut [u8]) -> Result<usize, Errno> {
        self.tty.input.read(into)
    }

    fn write(&self, _file: &OpenFile, _pos: u64, from: &[u8]) -> Result<usize, Errno> {
        write_to_host(self.output, from)
    }

    fn poll(&self, _file: &OpenFile) -> PollEvents {
        let readable = self.tty.input.is_ready();
        let input = if readable { PollEvents::READABLE } else { PollEvents::empty() };
        input | PollEvents::WRITABLE
    }

    fn wait_queue(&self) -> Option<WaitQueue> {
        Some(self.tty.input.queue().clone())
    }

    fn ioctl(&self, _file: &OpenFile, request: IoctlRequest<'_>) -> Result<IoctlAnswer, Errno> {
        self.tty.control(request)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
