//! The command line, as clap reads it.

use crate::inject::InjectArg;
use clap::{Args, Parser, Subcommand, ValueEnum};
use kilburn_mm::policy::Builtin;
use kilburn_paging::Sv;
use kilburn_swap::AreaSpec;
use std::ffi::OsString;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

/// Linux's process virtual memory as software.
#[derive(Parser, Debug)]
#[command(name = "kilburn", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run a riscv64 Linux program on a machine with memory, page tables and faults of our own.
    Run(Box<RunArgs>),
    /// List the processes of running machines.
    Ps(PsArgs),
    /// Print /proc/PID/maps of a process in a running machine.
    Maps(MapsArgs),
    /// Print /proc/PID/smaps of a process in a running machine.
    Smaps(MapsArgs),
    /// Watch the processes of a running machine.
    Top(TopArgs),
    /// Draw the way back from a file's pages to areas and processes in a running machine.
    Rmap(crate::rmap::Arguments),
    /// Compare page replacement policies on a trace or a Zipf distribution.
    Policies(Box<crate::policies::Arguments>),
    /// Make a Debian riscv64 root folder for `kilburn run --root`.
    Rootfs(RootfsArgs),
    /// Compare our memory manager with the kernel underneath, call by call.
    Fidelity(crate::fidelity::FidelityArgs),
    /// Translate addresses of a textbook system, step by step.
    Translate(crate::translate::Arguments),
    /// Replay traces of memory accesses through the translation hardware.
    Sim(crate::sim::Arguments),
    /// Replay traces on every configuration of a grid, on all cores; one table, and plots.
    Sweep(crate::sweep::Arguments),
    /// Ask questions about address translation, and check the answers.
    Exercise(crate::exercise::Arguments),
    /// Measure our work beside other people's, in turns: ratios, goals, tables, pictures.
    #[cfg(feature = "bench")]
    Bench(crate::bench::Arguments),
    /// Show what page tables cost: one flat table against a tree, in every format.
    Tables(crate::tables::Arguments),
}

const RUN_NOTES: &str = "\
Examples:
  kilburn run                                   the built-in tour of virtual memory, with figures
  kilburn run ./hello                           a static program of the host's, in an empty root
  kilburn run --root /srv/trixie dash -c 'ls | wc -l'
  kilburn run --root /srv/trixie --memory 64M --paging sv48 --stats=json python3 -c 'print(1)'
  kilburn run --root /srv/trixie --net host curl -s http://10.0.2.2:8000/     a server of the host's

Exit status:
  the program's own; 128 + N when signal N ended it; 127 no such program (or interpreter);
  126 not executable, not a riscv64 ELF; 2 wrong usage or configuration.

Two runs with the same arguments, files and input print the same bytes, figures included, except
for those marked `host` (time, MIPS).";

#[derive(Args, Debug)]
#[command(
    after_help = RUN_NOTES,
    override_usage = "kilburn run [OPTIONS] [PROGRAM [ARGS]...]"
)]
pub(crate) struct RunArgs {
    /// Folder of the host that the guest sees as `/`; nothing outside of it can be reached
    ///
    /// PROGRAM is then a path inside, or a name looked up in PATH. Without it, PROGRAM is a file
    /// of the host, put into an otherwise empty in-memory root.
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,

    /// RAM of the machine: bytes, or with K, M, G (powers of 1024)
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = parse_size)]
    pub(crate) memory: u64,

    /// Where pages go when RAM is short: lz4:SIZE, zstd:SIZE (compressed memory), file:PATH:SIZE or
    /// remote:URL:SIZE; then ,prio=N (higher is filled first) or ,encrypt. May be repeated
    ///
    /// Programs switch on files of their own below --root as well (mkswap, swapon).
    ///
    /// A URL is memory:///, fs:///DIR, redis://HOST:PORT, webdav+http://HOST:PORT/DIR or, if built
    /// with the feature `cloud`, s3://BUCKET/DIR?region=R and others (docs/pressure.md).
    #[arg(long, value_name = "AREA", value_parser = parse_as::<AreaSpec>)]
    pub(crate) swap: Vec<AreaSpec>,

    /// Who chooses the page that goes: two-list, mglru, clock, fifo, lru, arc, s3-fifo, sieve, random
    #[arg(long, value_name = "NAME", default_value = "two-list", value_parser = parse_as::<Builtin>)]
    pub(crate) policy: Builtin,

    /// Let swap, files of the guest's included, or with file: the files below --root, fail on purpose, drawn from --seed:
    /// NAME=PROBABILITY of eio, enospc, short, torn, delay, or gone=N (after N transfers), separated
    /// by commas. May be given for both
    ///
    /// Examples: eio=0.001,torn=0.0005 file:enospc=0.1,under=/var (only files below /var).
    #[arg(long, value_name = "FAULTS", value_parser = parse_as::<InjectArg>)]
    pub(crate) inject: Vec<InjectArg>,

    /// Paging mode: levels of the page tables
    #[arg(long, value_enum, default_value_t = Paging::Sv39)]
    pub(crate) paging: Paging,

    /// Simulated harts (processors); they take turns in a fixed order
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) harts: u32,

    /// Seed of everything random: address layout, getrandom, AT_RANDOM
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,

    /// Fixed address layout, as `setarch -R` gives
    #[arg(long)]
    pub(crate) no_aslr: bool,

    /// Let the clocks follow the host's, and waiting take its time; such runs do not repeat
    ///
    /// By default clocks go with the instructions executed, one nanosecond each, and time in which
    /// nothing runs is skipped.
    #[arg(long)]
    pub(crate) real_time: bool,

    /// How far sockets reach; runs that go to the host's network do not repeat
    #[arg(long, value_enum, value_name = "REACH", default_value_t = Net::Loopback)]
    pub(crate) net: Net,

    /// Set (or replace) an environment variable of the program; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_env)]
    pub(crate) env: Vec<String>,

    /// Working directory inside the guest [default: / with --root, else /root]
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<String>,

    /// Print figures on stderr after the run: faults, frames, page tables, TLB, system calls
    ///
    /// `text` (also without a value) is for people, `json` one object with stable keys
    /// (docs/figures.md). On by default for the tour; `off` there.
    #[arg(long, value_name = "FORM", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "text")]
    pub(crate) stats: Option<StatsForm>,

    /// Print each system call and signal, in strace's format, on stderr or into a file of the host
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    #[expect(clippy::option_option, reason = "absent, without a file, with one")]
    pub(crate) strace: Option<Option<PathBuf>>,

    /// Open no control socket: `kilburn ps` and its like do not see the machine
    #[arg(long)]
    pub(crate) no_control: bool,

    /// Write the figures into this file of the host instead of stderr
    #[arg(long, value_name = "FILE")]
    pub(crate) stats_file: Option<PathBuf>,

    /// Time every access on modelled hardware: a preset (skylake, cortex-a72, u54, simple), or a
    /// file that ends with .toml
    ///
    /// Counts go with `--stats` (text and JSON), or after the run to stderr. The program runs many
    /// times slower.
    #[arg(long, value_name = "PRESET|FILE")]
    pub(crate) timing: Option<String>,

    /// Record every access, and what the page tables said, for `kilburn sim`
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,

    /// Program and its arguments, taken as they are; without any: the built-in tour
    #[arg(value_name = "PROGRAM", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<OsString>,
}

/// `kilburn ps`.
#[derive(Args, Debug)]
pub(crate) struct PsArgs {
    /// Only the machine of this host process [default: all]
    #[arg(long, value_name = "PID")]
    pub(crate) machine: Option<u32>,

    /// One JSON object a line and machine
    #[arg(long)]
    pub(crate) json: bool,
}

/// `kilburn maps`, `kilburn smaps`.
#[derive(Args, Debug)]
pub(crate) struct MapsArgs {
    /// The machine, by its process on the host [default: the only one that runs]
    #[arg(long, value_name = "PID")]
    pub(crate) machine: Option<u32>,

    /// Process inside the machine
    #[arg(value_name = "PID")]
    pub(crate) pid: u32,
}

/// `kilburn top`.
#[derive(Args, Debug)]
pub(crate) struct TopArgs {
    /// The machine, by its process on the host [default: the only one that runs]
    #[arg(long, value_name = "PID")]
    pub(crate) machine: Option<u32>,

    /// Milliseconds between two looks
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    pub(crate) interval_ms: u32,

    /// How many looks [default: until the machine ends]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: Option<u32>,
}

/// `--paging`.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Paging {
    /// Three levels, 39-bit addresses
    Sv39,
    /// Four levels, 48-bit addresses
    Sv48,
    /// Five levels, 57-bit addresses
    Sv57,
}

impl From<Paging> for Sv {
    fn from(paging: Paging) -> Self {
        match paging {
            Paging::Sv39 => Self::SV39,
            Paging::Sv48 => Self::SV48,
            Paging::Sv57 => Self::SV57,
        }
    }
}

/// `--net`.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Net {
    /// A loopback inside the machine, nothing else
    Loopback,
    /// Outwards over the host's network as well; 10.0.2.2 is the host's own loopback
    Host,
}

impl From<Net> for kilburn_linux::Net {
    fn from(net: Net) -> Self {
        match net {
            Net::Loopback => Self::Loopback,
            Net::Host => Self::Host,
        }
    }
}

/// `--stats`.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StatsForm {
    /// Aligned columns with units
    Text,
    /// One JSON object
    Json,
    /// None
    Off,
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

/// What `text` stands for; clap prints why it stands for nothing.
pub(crate) fn parse_as<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// Bytes of `64K`, `256M`, `2G`, `1048576`.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let wrong =
        || "a size is a number of bytes, or a number and K, M or G, such as 256M".to_owned();
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(|| "that is more than 64 bits can count".to_owned())
}

fn parse_env(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(text.to_owned()),
        _ => Err("an environment variable is given as NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn run_args(line: &[&str]) -> RunArgs {
        match Cli::try_parse_from([&["kilburn", "run"], line].concat()).expect("parses").command {
            Command::Run(arguments) => *arguments,
            other => panic!("asked for run, not {other:?}"),
        }
    }

    fn refused(line: &[&str]) -> String {
        Cli::try_parse_from([&["kilburn", "run"], line].concat()).expect_err("refused").to_string()
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_follows_the_program_is_left_alone() {
        let arguments = run_args(&["--seed", "7", "prog", "--seed", "8", "--", "-x"]);
        assert_eq!(arguments.seed, 7);
        assert_eq!(arguments.command, ["prog", "--seed", "8", "--", "-x"]);
        let arguments = run_args(&["--", "--odd", "-h"]);
        assert_eq!(arguments.command, ["--odd", "-h"]);
    }

    #[test]
    fn stats_takes_its_form_only_after_an_equals_sign() {
        assert_eq!(run_args(&["--stats", "json"]).stats, Some(StatsForm::Text));
        assert_eq!(run_args(&["--stats", "json"]).command, ["json"]);
        assert_eq!(run_args(&["--stats=json", "x"]).stats, Some(StatsForm::Json));
        assert_eq!(run_args(&[]).stats, None);
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("64K"), Ok(64 << 10));
        assert_eq!(parse_size("256m"), Ok(256 << 20));
        assert_eq!(parse_size("2G"), Ok(2 << 30));
        for wrong in
            ["", "M", "1T", "-1", "+1", "1.5G", "99999999999999999999", "17179869184G", "\u{e9}"]
        {
            assert!(parse_size(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn wrong_values_are_refused_with_what_would_be_right() {
        assert!(refused(&["--paging", "sv32"]).contains("sv39, sv48, sv57"));
        assert!(refused(&["--memory", "lots"]).contains("256M"));
        assert!(refused(&["--env", "NAME"]).contains("NAME=VALUE"));
        assert!(refused(&["--harts", "0"]).contains("1.."));
        assert!(refused(&["--seed", "x"]).contains("invalid digit"));
    }
}
