//! The bytes of a trace, which end when somebody wants to stop.
//!
//! A file is always there to be read; a pipe may keep its reader waiting for ever. So before each read of what is no file
//! [`Input`] waits for bytes a little at a time, and looks whether to go on.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How long nobody looks whether to stop.
const WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Set by ^C and SIGTERM; a second one ends the process.
pub(crate) fn stop_flag() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// A flag that nobody sets.
pub(crate) fn never() -> Arc<AtomicBool> {
    Arc::default()
}

/// A trace's bytes.
pub(crate) struct Input {
    file: File,
    may_wait: bool,
    stop: Arc<AtomicBool>,
}

impl Input {
    /// The file at `path`, or standard input for `-`; and its length, 0 if that is not known.
    ///
    /// # Errors
    /// Those of opening it.
    pub(crate) fn open(path: &Path, stop: &Arc<AtomicBool>) -> io::Result<(Self, u64)> {
        let file = if path == Path::new("-") {
            File::from(io::stdin().as_fd().try_clone_to_owned()?)
        } else {
            File::open(path)?
        };
        let metadata = file.metadata()?;
        let (may_wait, len) = (!metadata.is_file(), metadata.len());
        Ok((Self { file, may_wait, stop: Arc::clone(stop) }, len))
    }

    fn wait(&self) -> io::Result<()> {
        if !self.may_wait {
            return Ok(());
        }
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(io::Error::other("stopped by a signal"));
            }
            match poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&WAIT)) {
                Ok(0) | Err(Errno::INTR) => (),
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Read for Input {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.wait()?;
        self.file.read(into)
    }
}
