//! Programs in less memory than they use: 2, 4 and 8 times too little, under every policy and in
//! every kind of swap. What they print must be what they print with enough, whatever it took.
//!
//! Writes the table of docs/pressure.md. A small part of this is in the tests
//! (crates/cli/tests/end_to_end/pressure.rs).

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the command takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The kilburn command, built with optimisation.
    #[arg(long, default_value = "target/release/kilburn")]
    kilburn: PathBuf,
    /// Debian riscv64 root folder with python3, sqlite3 and coreutils (kilburn rootfs).
    #[arg(long, env = "KILBURN_ROOT")]
    root: PathBuf,
    /// Only programs whose name has this in it; the tables of the others stay as they are.
    #[arg(long)]
    only: Option<String>,
}

/// A program, and the line of the table that it starts.
struct Program {
    name: &'static str,
    arguments: &'static [&'static str],
}

const SORT: &str =
    "seq 60000 | awk '{print $1*7919%1000003, $1}' > /tmp/b; sort -S 64M -n /tmp/b | md5sum";
const INDEX: &str = "pragma journal_mode=memory; pragma cache_size=-64000; create table t(a,b); \
    with recursive n(x) as (select 1 union all select x+1 from n where x<40000) insert into t \
    select x, 'k'||(x*7919%1000003) from n; create index i on t(b); select count(*), max(b) from t; \
    pragma integrity_check;";
const OBJECTS: &str = "d = [{'a': i, 'b': str(i)} for i in range(700000)]; \
    print(sum(x['a'] * len(x['b']) for x in d))";
const PROGRAMS: &[Program] = &[
    Program { name: "sort, 60,000 lines", arguments: &["bash", "-c", SORT] },
    Program {
        name: "sqlite3, 40,000 rows and an index",
        arguments: &["sqlite3", ":memory:", INDEX],
    },
    Program { name: "fork tree", arguments: &["tree", "16"] },
    Program { name: "python3, 700,000 objects", arguments: &["python3", "-c", OBJECTS] },
];

const POLICIES: [&str; 9] =
    ["two-list", "mglru", "clock", "fifo", "lru", "arc", "s3-fifo", "sieve", "random"];
const KINDS: [&str; 6] =
    ["lz4", "zstd", "file", "file, encrypted", "fs:// remote", "lz4 that fails"];
const TIMES: [u64; 3] = [2, 4, 8];

/// The OOM killer's.
const SIGKILL: i32 = 9;

/// A run that ended well.
struct Run {
    stdout: String,
    figures: Value,
}

impl Run {
    fn figure(&self, group: &str, name: &str) -> u64 {
        self.figures[group][name].as_u64().unwrap_or(0)
    }
}

struct Runner<'a> {
    repository: &'a Path,
    args: &'a Args,
    scratch: PathBuf,
}

impl Runner<'_> {
    /// `None`: the OOM killer ended it.
    fn run(&self, program: &Program, memory_mib: u64, options: &[String]) -> Result<Option<Run>> {
        let mut command = Command::new(&self.args.kilburn);
        command.args(["run", "--stats=json", &format!("--memory={memory_mib}M")]).args(options);
        if program.arguments[0] == "tree" {
            command.arg(self.repository.join("programs/pressure"));
        } else {
            command.arg("--root").arg(&self.args.root);
        }
        let output = command.args(program.arguments).output().context("running kilburn")?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        if output.status.code() == Some(128 + SIGKILL) {
            return Ok(None);
        }
        ensure!(output.status.success(), "{command:?}: {}: {stderr}", output.status);
        // Programs may have said something before.
        let json = stderr.find('{').map_or("", |start| &stderr[start..]);
        Ok(Some(Run {
            stdout: String::from_utf8(output.stdout)?,
            figures: serde_json::from_str(json).with_context(|| format!("{command:?}: {json}"))?,
        }))
    }

    /// The options for a kind of swap.
    fn swap(&self, kind: &str) -> Vec<String> {
        let place = self.scratch.display();
        match kind {
            "file" => vec![format!("--swap=file:{place}/swap:1G")],
            "file, encrypted" => vec![format!("--swap=file:{place}/swap:1G,encrypt")],
            "fs:// remote" => vec![format!("--swap=remote:fs://{place}/store:1G")],
            "lz4 that fails" => {
                vec!["--swap=lz4:1G".into(), "--inject=enospc=0.1,short=0.05,delay=0.01".into()]
            }
            kind => vec![format!("--swap={kind}:1G")],
        }
    }

    /// A line of the table: the program in too little memory by each factor.
    fn line(&self, program: &Program, enough: &Run, policy: &str, kind: &str) -> Result<String> {
        let mut line = format!("| {policy} | {kind} |");
        for times in TIMES {
            let needed = enough.figure("frames", "peak") * 4096;
            let memory_mib = (needed / times).div_ceil(1 << 20);
            let mut options = self.swap(kind);
            options.push(format!("--policy={policy}"));
            let Some(run) = self.run(program, memory_mib, &options)? else {
                line.push_str(" killed |");
                continue;
            };
            ensure!(
                run.stdout == enough.stdout,
                "{}, {policy}, {kind}, {memory_mib} MiB: printed something else",
                program.name
            );
            let (peak, total) = (run.figure("frames", "peak"), run.figure("frames", "total"));
            ensure!(peak <= total, "{peak} of {total} frames were in use");
            ensure!(run.figure("frames", "in_use_at_end") == 0, "frames were lost");
            let moved = |name| run.figure("reclaim", name).div_ceil(1000);
            let _ = write!(line, " {} / {} |", moved("swapped_out"), moved("swapped_in"));
        }
        println!("{}: {line}", program.name);
        Ok(line)
    }

    fn table(&self, program: &Program) -> Result<String> {
        let enough = self.run(program, 512, &[])?.context("killed in 512 MiB")?;
        let needed = enough.figure("frames", "peak") >> 8;
        let mut table = format!(
            "\n**{}**, {needed} MiB with enough:\n\n| policy | swap | half | a quarter | an eighth |\n|---|---|---|---|---|\n",
            program.name
        );
        for policy in POLICIES {
            table.push_str(&self.line(program, &enough, policy, KINDS[0])?);
            table.push('\n');
        }
        for kind in &KINDS[1..] {
            table.push_str(&self.line(program, &enough, POLICIES[0], kind)?);
            table.push('\n');
        }
        Ok(table)
    }
}

/// Where the table begins and ends in docs/pressure.md.
const MARKS: [&str; 2] = ["<!-- cargo xtask pressure writes from here -->\n", "<!-- to here -->\n"];

/// Runs everything; fails when a program printed something else than with enough memory.
pub(crate) fn run(repository: &Path, args: &Args) -> Result<()> {
    let scratch = repository.join("target/pressure");
    std::fs::create_dir_all(&scratch)?;
    let runner = Runner { repository, args, scratch };
    let wanted = |program: &&Program| {
        args.only.as_ref().is_none_or(|only| program.name.contains(only.as_str()))
    };
    for program in PROGRAMS.iter().filter(wanted) {
        write(repository, program.name, &runner.table(program)?)?;
    }
    println!("docs/pressure.md: written");
    Ok(())
}

/// Puts the table of one program in place of the one that is there, or behind all others. It is written as soon as it is complete: what
/// was measured stays when the next program fails.
fn write(repository: &Path, name: &str, table: &str) -> Result<()> {
    let path = repository.join("docs/pressure.md");
    let page = std::fs::read_to_string(&path)?;
    let [from, to] = MARKS;
    let (before, rest) =
        page.split_once(from).context("docs/pressure.md: where do tables begin?")?;
    let (tables, after) = rest.split_once(to).context("docs/pressure.md: where do they end?")?;
    let head = format!("\n**{name}**");
    let tables = match tables.split_once(&head) {
        None => format!("{}\n{table}\n", tables.trim_end_matches('\n')),
        Some((others, old)) => {
            let end = old.find("\n**").unwrap_or(old.len());
            format!("{others}{}\n{}", table.trim_end_matches('\n'), &old[end..])
        }
    };
    std::fs::write(&path, format!("{before}{from}{tables}{to}{after}"))?;
    Ok(())
}
