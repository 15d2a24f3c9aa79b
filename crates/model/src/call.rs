//! Calls: what a process does to its address space, with raw arguments, a line of text each.
//!
//! ```text
//! 0 mmap addr=0x0 len=0x3000 prot=0x3 flags=0x22 file=- offset=0x0
//! ^ the process that makes the call; 0 is the first, a fork makes the next
//! ```

use std::fmt;
use std::str::FromStr;

/// Arguments of a call at most.
pub const MAX_ARGS: usize = 6;

/// The file argument of an mmap without one.
pub const NO_FILE: u64 = u64::MAX;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal ($($arg:literal),*)),* $(,)?) => {
        /// What is done.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// The name in text.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name),* }
            }

            /// The names of its arguments.
            pub const fn args(self) -> &'static [&'static str] {
                match self { $(Self::$kind => &[$($arg),*]),* }
            }
        }
    };
}

kinds! {
    /// mmap(2); `file` is a number of the case's files.
    Mmap = "mmap" ("addr", "len", "prot", "flags", "file", "offset"),
    /// munmap(2)
    Munmap = "munmap" ("addr", "len"),
    /// mprotect(2)
    Mprotect = "mprotect" ("addr", "len", "prot"),
    /// mremap(2)
    Mremap = "mremap" ("old", "old_len", "new_len", "flags", "new"),
    /// brk(2)
    Brk = "brk" ("addr"),
    /// madvise(2)
    Madvise = "madvise" ("addr", "len", "advice"),
    /// msync(2)
    Msync = "msync" ("addr", "len", "flags"),
    /// mincore(2); the vector is digested.
    Mincore = "mincore" ("addr", "len"),
    /// mlock(2)
    Mlock = "mlock" ("addr", "len"),
    /// mlock2(2)
    Mlock2 = "mlock2" ("addr", "len", "flags"),
    /// munlock(2)
    Munlock = "munlock" ("addr", "len"),
    /// mlockall(2)
    Mlockall = "mlockall" ("flags"),
    /// munlockall(2)
    Munlockall = "munlockall" (),
    /// mseal(2)
    Mseal = "mseal" ("addr", "len", "flags"),
    /// remap_file_pages(2)
    RemapFilePages = "remap_file_pages" ("addr", "size", "prot", "pgoff", "flags"),
    /// A load of one byte.
    Read = "read" ("addr"),
    /// A store of one byte.
    Write = "write" ("addr", "value"),
    /// Loads of 8 bytes at the start of each of `pages` pages, digested.
    Sum = "sum" ("addr", "pages"),
    /// ftruncate(2) of one of the case's files.
    Truncate = "truncate" ("file", "size"),
    /// pwrite(2) of 8 bytes into a file.
    FileWrite = "file_write" ("file", "offset", "value"),
    /// pread(2) of 8 bytes from a file, digested.
    FileRead = "file_read" ("file", "offset"),
    /// process_vm_readv(2) of another process of the case, or itself; digested.
    RemoteRead = "remote_read" ("target", "addr", "len"),
    /// process_vm_writev(2): `len` bytes of `value`.
    RemoteWrite = "remote_write" ("target", "addr", "len", "value"),
    /// prlimit(2) of a soft limit: `RLIMIT_AS` and `RLIMIT_DATA` as so many bytes more than the
    /// first process had when the case began, others as they are.
    Rlimit = "rlimit" ("resource", "bytes"),
    /// capset(2): gives up `CAP_IPC_LOCK`, if held.
    DropIpcLock = "drop_ipc_lock" (),
    /// fork(2): the child is the next process.
    Fork = "fork" (),
    /// The process ends.
    Exit = "exit" (),
}

/// Bytes that a remote read or write moves at most.
pub const REMOTE_BYTES: u64 = 4 * 4096;

/// `RLIMIT_DATA`
pub const RLIMIT_DATA: u64 = 2;
/// `RLIMIT_STACK`
pub const RLIMIT_STACK: u64 = 3;
/// `RLIMIT_MEMLOCK`
pub const RLIMIT_MEMLOCK: u64 = 8;
/// `RLIMIT_AS`
pub const RLIMIT_AS: u64 = 9;

/// A call with its arguments; those past [`Kind::args`] are 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Call {
    /// What is done.
    pub kind: Kind,
    /// With what.
    pub args: [u64; MAX_ARGS],
}

impl Call {
    /// A call with the arguments given.
    ///
    /// # Panics
    /// When there are more than [`MAX_ARGS`].
    pub fn new(kind: Kind, args: &[u64]) -> Self {
        let mut all = [0; MAX_ARGS];
        all[..args.len()].copy_from_slice(args);
        Self { kind, args: all }
    }

    /// Whether the areas may be different afterwards, whatever the outcome.
    pub fn may_change_areas(&self) -> bool {
        !matches!(
            self.kind,
            Kind::Read
                | Kind::Sum
                | Kind::Mincore
                | Kind::Msync
                | Kind::FileRead
                | Kind::FileWrite
                | Kind::Truncate
                | Kind::RemoteRead
                | Kind::RemoteWrite
                | Kind::Rlimit
                | Kind::DropIpcLock
                | Kind::Exit
        )
    }
}

/// A call and the process that makes it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Step {
    /// The process: 0 is the first, each fork makes the next.
    pub process: u8,
    /// The call.
    pub call: Call,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.process, self.call.kind.name())?;
        for (name, value) in self.call.kind.args().iter().zip(self.call.args) {
            if *name == "file" && value == NO_FILE {
                write!(f, " file=-")?;
            } else {
                write!(f, " {name}={value:#x}")?;
            }
        }
        Ok(())
    }
}

/// A line that is no step: what is wrong with it, and what would be right.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadStep(pub String);

impl FromStr for Step {
    type Err = BadStep;

    fn from_str(line: &str) -> Result<Self, BadStep> {
        let bad = |why: String| Err(BadStep(why));
        let mut words = line.split_ascii_whitespace();
        let process = words.next().unwrap_or_default();
        let Ok(process) = process.parse() else {
            return bad(format!(
                "«{process}» is neither window, file or brk nor the number of a process, 0 the first"
            ));
        };
        let name = words.next().unwrap_or_default();
        let Some(&kind) = Kind::ALL.iter().find(|kind| kind.name() == name) else {
            let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
            return bad(format!("«{name}» is no call; there are {}", names.join(", ")));
        };
        let mut call = Call::new(kind, &[]);
        for (at, name) in kind.args().iter().enumerate() {
            let word = words.next().unwrap_or_default();
            let Some(value) = word.strip_prefix(name).and_then(|rest| rest.strip_prefix('='))
            else {
                let found = if word.is_empty() { "nothing" } else { word };
                return bad(format!("{found} where {} wants {name}=NUMBER", kind.usage()));
            };
            let number = match value.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16).ok(),
                None if value == "-" && *name == "file" => Some(NO_FILE),
                None => value.parse().ok(),
            };
            let Some(number) = number else {
                return bad(format!("{word}: not a number of 64 bits, such as 0x1000 or 4096"));
            };
            call.args[at] = number;
        }
        match words.next() {
            Some(word) => bad(format!("{word} is too much: {}", kind.usage())),
            None => Ok(Self { process, call }),
        }
    }
}

impl Kind {
    /// How a step of this kind is written.
    pub fn usage(self) -> String {
        let args: String = self.args().iter().map(|arg| format!(" {arg}=..")).collect();
        format!("PROCESS {}{args}", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_survive_text() {
        for &kind in Kind::ALL {
            let args: Vec<u64> = (0..kind.args().len()).map(|at| at as u64 * 0x1001).collect();
            let step = Step { process: 2, call: Call::new(kind, &args) };
            assert_eq!(step.to_string().parse(), Ok(step));
        }
        let step = "0 mmap addr=0x0 len=0x3000 prot=0x3 flags=0x22 file=- offset=0x0";
        assert_eq!(step.parse::<Step>().expect("well-formed").to_string(), step);
    }

    #[test]
    fn a_bad_step_is_told_what_would_be_right() {
        for (bad, why) in [
            ("", "neither window"),
            ("x exit", "«x» is neither window"),
            ("0", "«» is no call; there are mmap, munmap"),
            ("0 maps", "«maps» is no call"),
            ("0 munmap addr=1", "nothing where PROCESS munmap addr=.. len=.. wants len=NUMBER"),
            ("0 brk len=1", "len=1 where PROCESS brk addr=.. wants addr=NUMBER"),
            ("0 brk addr=0xx", "addr=0xx: not a number"),
            ("0 brk addr=-", "not a number"),
            ("0 exit now", "now is too much: PROCESS exit"),
        ] {
            let BadStep(said) = bad.parse::<Step>().expect_err(bad);
            assert!(said.contains(why), "{bad}: {said}");
        }
    }
}
