//! The command line, as clap reads it.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Linux's process virtual memory as software.
#[derive(Parser, Debug)]
#[command(name = "kilburn", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Make a Debian riscv64 root folder for `kilburn run --root`.
    Rootfs(RootfsArgs),
}

const ROOTFS_NOTES: &str = "\
Examples:
  kilburn rootfs /srv/trixie bash coreutils findutils grep sed
  kilburn rootfs --suite sid --mirror URL /srv/sid python3

Needs mmdebstrap (apt install mmdebstrap). Packages and what they depend on are unpacked; their
maintainer scripts do not run, so nothing of riscv64 has to be executed. base-files and dash always
come along. Made besides: /etc/passwd, /etc/group, /etc/hosts, and links such as awk -> mawk that
the alternatives system would make.";

#[derive(Args, Debug)]
#[command(after_help = ROOTFS_NOTES)]
pub(crate) struct RootfsArgs {
    /// Debian suite
    #[arg(long, default_value = "trixie")]
    pub(crate) suite: String,

    /// Archive to take packages from [default: the Debian archive this machine's apt uses]
    #[arg(long, value_name = "URL")]
    pub(crate) mirror: Option<String>,

    /// Folder to make: new or empty
    pub(crate) dir: PathBuf,

    /// Debian packages
    #[arg(required = true, value_name = "PACKAGE")]
    pub(crate) packages: Vec<String>,
}
