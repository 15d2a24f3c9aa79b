//! What goes wrong before or instead of a guest program: one line and an exit status.

use kilburn_addr::Errno;
use kilburn_linux::MachineError;
use std::fmt;
use std::process::ExitCode;

/// A line that says what is wrong (and what would be right), with its exit status.
#[derive(Debug)]
pub(crate) struct Failure {
    status: u8,
    message: String,
}

impl Failure {
    /// Wrong usage or configuration, or a job that failed: exit status 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { status: 2, message: message.into() }
    }

    /// A mistake of our own, whatever the guest did: exit status 70 (sysexits.h `EX_SOFTWARE`).
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self { status: 70, message: message.into() }
    }

    /// The program is there but cannot be executed: exit status 126, as a shell's.
    pub(crate) fn not_executable(message: impl Into<String>) -> Self {
        Self { status: 126, message: message.into() }
    }

    /// The program (or its interpreter) is not there: exit status 127, as a shell's.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self { status: 127, message: message.into() }
    }

    /// The status the process ends with.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.status)
    }
}

impl From<MachineError> for Failure {
    fn from(error: MachineError) -> Self {
        let message = error.to_string();
        match error {
            MachineError::Exec { errno: Errno::ENOENT, .. } => Self::not_found(message),
            MachineError::Exec { .. } => Self::not_executable(message),
            _ => Self::usage(message),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
