//! Printing arguments.

use super::calls::{Arg, Call};
use super::{flags, sigset};
use crate::signal::{SigSet, Signal};
use crate::syscall::{Args, SysResult};
use crate::task::Task;
use kilburn_addr::VirtAddr;
use kilburn_mm::RemoteRights;
use std::fmt::Write as _;

/// Bytes of a string that are shown.
const STRING_SHOWN: usize = 32;
/// Strings of a vector that are shown.
const STRINGS_SHOWN: usize = 32;
const PATH_SHOWN: usize = 4096;

/// Prints the arguments up to the first that is known only at the end.
pub(super) fn print_entry(task: &Task, call: &Call, args: Args, out: &mut String) {
    for (i, arg) in call.args.iter().enumerate() {
        comma(i, out);
        if arg.is_after() {
            return;
        }
        print(task, *arg, args, i, None, out);
    }
}

/// Prints the rest.
pub(super) fn print_exit(
    task: &Task,
    call: &Call,
    args: Args,
    result: &SysResult,
    out: &mut String,
) {
    let first = call.args.iter().position(|arg| arg.is_after()).unwrap_or(call.args.len());
    for (i, arg) in call.args.iter().enumerate().skip(first) {
        if i > first {
            comma(i, out);
        }
        print(task, *arg, args, i, Some(result), out);
    }
}

fn comma(i: usize, out: &mut String) {
    if i > 0 {
        out.push_str(", ");
    }
}

/// A signal's name; real-time ones are counted from the first.
pub(super) fn signal_name(signal: Signal) -> String {
    match signal.name() {
        Some(name) => name.to_owned(),
        None if signal.number() == Signal::RTMIN => "SIGRTMIN".into(),
        None => format!("SIGRT_{}", signal.number() - Signal::RTMIN),
    }
}

fn print(
    task: &Task,
    arg: Arg,
    args: Args,
    i: usize,
    result: Option<&SysResult>,
    out: &mut String,
) {
    let raw = args.raw(i);
    let answered = result.and_then(|result| result.as_ref().ok().copied());
    let next = || if i < 5 { args.raw(i + 1) } else { 0 };
    let text = match arg {
        Arg::Int => args.int(i).to_string(),
        Arg::Long => raw.to_string(),
        Arg::Dir if args.int(i) == -100 => "AT_FDCWD".into(),
        Arg::Dir => args.int(i).to_string(),
        Arg::Pointer => pointer(raw),
        Arg::Hex => {
            if raw == 0 {
                "0".into()
            } else {
                format!("{raw:#x}")
            }
        }
        Arg::Mode => mode(args.uint(i)),
        Arg::Path => string(task, raw, PATH_SHOWN).unwrap_or_else(|| pointer(raw)),
        Arg::Data => bytes(task, raw, next()),
        Arg::Buffer => answered.map_or_else(|| pointer(raw), |len| bytes(task, raw, len)),
        Arg::Text => answered.map_or_else(|| pointer(raw), |len| text_of(task, raw, len)),
        Arg::Bits(names) => flags::bits(args.uint(i).into(), names, "0"),
        Arg::BitsOr(names, zero) => flags::bits(args.uint(i).into(), names, zero),
        Arg::One(names, prefix) => flags::one(args.uint(i).into(), names, prefix),
        Arg::OpenFlags => open_flags(args.uint(i), next() as u32),
        Arg::SocketType => socket_type(args.uint(i)),
        Arg::Clone => clone(args),
        Arg::Futex => futex(args.uint(i)),
        Arg::Signal => Signal::new(args.int(i)).map_or(args.int(i).to_string(), signal_name),
        Arg::Set => set(task, raw),
        Arg::Action => action(task, raw),
        Arg::Time => time(task, raw),
        Arg::Limit => limit(task, raw),
        Arg::Strings => strings(task, raw),
        Arg::Environment => environment(task, raw),
        Arg::Address => address(task, raw, next()),
        // The rest is what the call wrote: nothing when it failed.
        _ if answered.is_none() => pointer(raw),
        Arg::SetBack => set(task, raw),
        Arg::ActionBack => action(task, raw),
        Arg::TimeBack => time(task, raw),
        Arg::LimitBack => limit(task, raw),
        Arg::Pair => pair(task, raw),
        Arg::Status => status(task, raw, answered.unwrap_or(0)),
        Arg::Stat => stat(task, raw),
    };
    out.push_str(&text);
}

fn pointer(raw: u64) -> String {
    if raw == 0 { "NULL".into() } else { format!("{raw:#x}") }
}

fn mode(mode: u32) -> String {
    if mode == 0 { "000".into() } else { format!("{mode:#04o}").replace("0o", "0") }
}

/// Guest memory; `None` when not all of it can be read.
fn read(task: &Task, addr: u64, len: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; len];
    let got =
        task.with_mm(|mm| mm.read_remote(VirtAddr::new(addr), &mut bytes, RemoteRights::Forced))?;
    (got == len).then_some(bytes)
}

fn words<const N: usize>(task: &Task, addr: u64) -> Option<[u64; N]> {
    let bytes = read(task, addr, N * 8)?;
    let word = |i: usize| {
        bytes[i * 8..i * 8 + 8].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    };
    Some(std::array::from_fn(word))
}

fn quote(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for (i, byte) in bytes.iter().enumerate() {
        let digit_follows = bytes.get(i + 1).is_some_and(u8::is_ascii_digit);
        let _ = match byte {
            b'"' => write!(out, "\\\""),
            b'\\' => write!(out, "\\\\"),
            b'\n' => write!(out, "\\n"),
            b'\t' => write!(out, "\\t"),
            b'\r' => write!(out, "\\r"),
            0x0b => write!(out, "\\v"),
            0x0c => write!(out, "\\f"),
            b' '..=b'~' => write!(out, "{}", char::from(*byte)),
            // As short as it can be read.
            _ if digit_follows => write!(out, "\\{byte:03o}"),
            _ => write!(out, "\\{byte:o}"),
        };
    }
    out.push('"');
    out
}

fn bytes(task: &Task, addr: u64, len: u64) -> String {
    let shown = usize::try_from(len).unwrap_or(usize::MAX).min(STRING_SHOWN);
    match read(task, addr, shown) {
        Some(bytes) => quote(&bytes) + if len as usize > shown { "..." } else { "" },
        None => pointer(addr),
    }
}

fn text_of(task: &Task, addr: u64, len: u64) -> String {
    let bytes = read(task, addr, (len as usize).min(PATH_SHOWN));
    match bytes {
        Some(mut bytes) => {
            if bytes.last() == Some(&0) {
                bytes.pop();
            }
            quote(&bytes)
        }
        None => pointer(addr),
    }
}

/// A string of C, up to its zero.
fn c_string(task: &Task, addr: u64, limit: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while bytes.len() < limit {
        let at = addr.checked_add(bytes.len() as u64)?;
        let to_page_end = 4096 - (at % 4096) as usize;
        let chunk = read(task, at, to_page_end)?;
        if let Some(end) = chunk.iter().position(|byte| *byte == 0) {
            bytes.extend(&chunk[..end]);
            return Some(bytes);
        }
        bytes.extend(chunk);
    }
    Some(bytes)
}

fn string(task: &Task, addr: u64, limit: usize) -> Option<String> {
    let bytes = c_string(task, addr, limit + 1)?;
    let shown = &bytes[..bytes.len().min(limit)];
    Some(quote(shown) + if bytes.len() > limit { "..." } else { "" })
}

fn strings(task: &Task, vector: u64) -> String {
    if vector == 0 {
        return "NULL".into();
    }
    let mut shown = Vec::new();
    for i in 0..STRINGS_SHOWN as u64 {
        match words::<1>(task, vector.wrapping_add(i * 8)) {
            Some([0]) => return format!("[{}]", shown.join(", ")),
            Some([at]) => shown.push(string(task, at, STRING_SHOWN).unwrap_or_else(|| pointer(at))),
            None => return pointer(vector),
        }
    }
    format!("[{}, ...]", shown.join(", "))
}

/// `0x... /* 6 vars */`
fn environment(task: &Task, vector: u64) -> String {
    if vector == 0 {
        return "NULL".into();
    }
    let mut count = 0;
    while let Some([at]) = words::<1>(task, vector.wrapping_add(count * 8)) {
        if at == 0 || count == 0x10_0000 {
            let plural = if count == 1 { "" } else { "s" };
            return format!("{vector:#x} /* {count} var{plural} */");
        }
        count += 1;
    }
    pointer(vector)
}

fn open_flags(flags: u32, made: u32) -> String {
    let names = flags::bits(flags.into(), flags::OPEN, "");
    let access = if flags & 3 == 0 { "O_RDONLY" } else { "" };
    let bar = if access.is_empty() || names.is_empty() { "" } else { "|" };
    let text = format!("{access}{bar}{names}");
    let makes = flags & 0o100 != 0 || flags & 0o2020_0000 == 0o2020_0000;
    if makes { format!("{text}, {}", mode(made)) } else { text }
}

fn socket_type(kind: u32) -> String {
    let name = flags::one((kind & 0xf).into(), flags::SOCKET, "SOCK_");
    let rest = [(0o4000, "|SOCK_NONBLOCK"), (0o200_0000, "|SOCK_CLOEXEC")];
    let rest = rest.into_iter().filter(|(bit, _)| kind & bit != 0).map(|(_, name)| name);
    name + &rest.collect::<String>()
}

/// `child_stack=NULL, flags=CLONE_VM|SIGCHLD`, and what the flags use.
fn clone(args: Args) -> String {
    let flags = args.raw(0);
    let mut text = format!("child_stack={}, flags={}", pointer(args.raw(1)), clone_flags(flags));
    let uses =
        [(0x10_1000, "parent_tid", 2), (0x8_0000, "tls", 3), (0x120_0000, "child_tidptr", 4)];
    for (bits, name, i) in uses {
        if flags & bits != 0 {
            let _ = write!(text, ", {name}={:#x}", args.raw(i));
        }
    }
    text
}

fn clone_flags(raw: u64) -> String {
    let names = flags::bits(raw & !0xff, flags::CLONE, "");
    let signal = match Signal::new((raw & 0xff) as i32) {
        Some(signal) => signal_name(signal),
        None if names.is_empty() => "0".into(),
        None => String::new(),
    };
    let bar = if names.is_empty() || signal.is_empty() { "" } else { "|" };
    format!("{names}{bar}{signal}")
}

fn futex(operation: u32) -> String {
    let mut text = flags::one((operation & 0x7f).into(), flags::FUTEX, "FUTEX_");
    if operation & 0x80 != 0 {
        text.push_str("_PRIVATE");
    }
    if operation & 0x100 != 0 {
        text.push_str("|FUTEX_CLOCK_REALTIME");
    }
    text
}

fn set(task: &Task, addr: u64) -> String {
    match words::<1>(task, addr) {
        Some([bits]) if addr != 0 => sigset(SigSet::from_bits(bits)),
        _ => pointer(addr),
    }
}

fn action(task: &Task, addr: u64) -> String {
    let Some([handler, flag_bits, mask]) = words(task, addr).filter(|_| addr != 0) else {
        return pointer(addr);
    };
    let handler = match handler {
        0 => "SIG_DFL".into(),
        1 => "SIG_IGN".into(),
        handler => format!("{handler:#x}"),
    };
    let flag_names = flags::bits(flag_bits, flags::SIGACTION, "0");
    let mask = sigset(SigSet::from_bits(mask));
    format!("{{sa_handler={handler}, sa_mask={mask}, sa_flags={flag_names}}}")
}

fn time(task: &Task, addr: u64) -> String {
    match words::<2>(task, addr) {
        Some([seconds, nanos]) if addr != 0 => {
            format!("{{tv_sec={}, tv_nsec={}}}", seconds as i64, nanos as i64)
        }
        _ => pointer(addr),
    }
}

fn limit(task: &Task, addr: u64) -> String {
    let shown = |value: u64| match value {
        u64::MAX => "RLIM64_INFINITY".into(),
        value if value > 1024 && value % 1024 == 0 => format!("{}*1024", value / 1024),
        value => value.to_string(),
    };
    match words::<2>(task, addr) {
        Some([soft, hard]) if addr != 0 => {
            format!("{{rlim_cur={}, rlim_max={}}}", shown(soft), shown(hard))
        }
        _ => pointer(addr),
    }
}

fn pair(task: &Task, addr: u64) -> String {
    match words::<1>(task, addr) {
        Some([both]) => format!("[{}, {}]", both as i32, (both >> 32) as i32),
        None => pointer(addr),
    }
}

fn status(task: &Task, addr: u64, pid: u64) -> String {
    let Some(raw) = read(task, addr, 4).filter(|_| addr != 0 && pid != 0) else {
        return pointer(addr);
    };
    let status = i32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]);
    let name = |number: i32| Signal::new(number).map_or(number.to_string(), signal_name);
    match status & 0x7f {
        _ if status == 0xffff => "[{WIFCONTINUED(s)}]".into(),
        0 => format!("[{{WIFEXITED(s) && WEXITSTATUS(s) == {}}}]", status >> 8 & 0xff),
        0x7f => format!("[{{WIFSTOPPED(s) && WSTOPSIG(s) == {}}}]", name(status >> 8 & 0xff)),
        signal => {
            let core = if status & 0x80 != 0 { " && WCOREDUMP(s)" } else { "" };
            format!("[{{WIFSIGNALED(s) && WTERMSIG(s) == {}{core}}}]", name(signal))
        }
    }
}

fn stat(task: &Task, addr: u64) -> String {
    // st_mode is at 16, st_rdev at 32, st_size at 48.
    let Some(words) = words::<7>(task, addr) else { return pointer(addr) };
    let mode = words[2] as u32;
    let kind = match mode & 0o170_000 {
        0o140_000 => "S_IFSOCK",
        0o120_000 => "S_IFLNK",
        0o100_000 => "S_IFREG",
        0o060_000 => "S_IFBLK",
        0o040_000 => "S_IFDIR",
        0o020_000 => "S_IFCHR",
        0o010_000 => "S_IFIFO",
        _ => "0",
    };
    let perm = format!("{:#05o}", mode & 0o7777).replace("0o", "0");
    let device = matches!(kind, "S_IFCHR" | "S_IFBLK");
    let rest = if device {
        let rdev = words[4];
        let (major, minor) = (rdev >> 8 & 0xfff, rdev & 0xff | rdev >> 12 & 0xfff00);
        format!("st_rdev=makedev({major:#x}, {minor:#x})")
    } else {
        format!("st_size={}", words[6])
    };
    format!("{{st_mode={kind}|{perm}, {rest}, ...}}")
}

fn address(task: &Task, addr: u64, len: u64) -> String {
    let raw = usize::try_from(len).ok().filter(|len| (2..=128).contains(len) && addr != 0);
    let Some(raw) = raw.and_then(|len| read(task, addr, len)) else { return pointer(addr) };
    let port = || u16::from_be_bytes([raw[2], raw[3]]);
    match u16::from_le_bytes([raw[0], raw[1]]) {
        1 if raw.len() > 2 && raw[2] == 0 => {
            format!("{{sa_family=AF_UNIX, sun_path=@{}}}", quote(&raw[3..]))
        }
        1 => {
            let end = raw[2..].iter().position(|byte| *byte == 0).unwrap_or(raw.len() - 2);
            format!("{{sa_family=AF_UNIX, sun_path={}}}", quote(&raw[2..2 + end]))
        }
        2 if raw.len() >= 8 => {
            let ip = std::net::Ipv4Addr::new(raw[4], raw[5], raw[6], raw[7]);
            let port = port();
            format!("{{sa_family=AF_INET, sin_port=htons({port}), sin_addr=inet_addr(\"{ip}\")}}")
        }
        family => {
            let family = flags::one(family.into(), flags::FAMILY, "AF_");
            format!("{{sa_family={family}, sa_data={}}}", quote(&raw[2..]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted_as_short_as_they_can_be_read() {
        assert_eq!(quote(b"a\"\\\n\x01\x7f"), "\"a\\\"\\\\\\n\\1\\177\"");
        assert_eq!(quote(b"\x001"), "\"\\0001\"", "a digit follows");
    }

    #[test]
    fn flags_are_named_and_the_rest_is_a_number() {
        assert_eq!(open_flags(0o100 | 1, 0o644), "O_WRONLY|O_CREAT, 0644");
        assert_eq!(open_flags(0o200_0000, 0), "O_RDONLY|O_CLOEXEC");
        assert_eq!(open_flags(0, 0), "O_RDONLY");
        assert_eq!(clone_flags(0x0120_0011), "CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD");
        assert_eq!(futex(0x81), "FUTEX_WAKE_PRIVATE");
        assert_eq!(socket_type(0o200_0001), "SOCK_STREAM|SOCK_CLOEXEC");
        assert_eq!(flags::bits(0x8001, flags::PROT, "PROT_NONE"), "PROT_READ|0x8000");
        assert_eq!(flags::one(77, flags::WHENCE, "SEEK_"), "0x4d /* SEEK_??? */");
    }

    #[test]
    fn modes_are_octal_with_a_leading_zero() {
        assert_eq!(mode(0o644), "0644");
        assert_eq!(mode(0o7), "007");
        assert_eq!(mode(0), "000");
    }
}
