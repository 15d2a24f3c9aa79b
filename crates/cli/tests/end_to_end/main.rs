//! The command as its users see it: programs in, bytes and exit statuses out.
//!
//! - [`kilburn`]: runs the command, with a time limit.
//! - [`case`]: a program and what a real riscv64 kernel prints for it, as kept in testdata/e2e/.
//! - [`real_programs`]: Debian's programs, case by case. Needs a root folder (`KILBURN_ROOT`).
//! - [`shells`]: real shells again: input, seeds, figures, confinement.
//! - [`pressure`]: programs that need more memory than the machine has; [`remote`]: swap in stores
//!   reached by URL; [`swap_files`]: in files of the guest's own; [`faults`]: files that fail on purpose.
//! - [`net`]: the host's network. [`repeats`]: one seed, one run, however threads race.
//! - [`tour`]: the built-in tour, determinism, figures. [`bad_input`]: what must be refused.
//! - [`elf`]: tiny hand-made executables, so that those two need nothing installed.
//!
//! Environment:
//! - `KILBURN_ROOT`: a Debian riscv64 root folder (`kilburn rootfs`); without it such tests are
//!   skipped, and say so.
//! - `KILBURN_NO_SKIP`: skipping is a failure (CI).
//! - `KILBURN_REAL`: a command that runs `[options] -- PROGRAM ARGS...` on a real riscv64 kernel.
//!   With `KILBURN_E2E=compare` the cases run there and here, side by side; with
//!   `KILBURN_E2E=update` they run there, and replace what testdata/e2e/ holds (`cargo xtask e2e`).

mod bad_input;
mod case;
mod elf;
mod faults;
mod kilburn;
mod net;
mod pressure;
mod real_programs;
mod remote;
mod repeats;
mod shells;
mod swap_files;
mod tour;
