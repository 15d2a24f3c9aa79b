//! The name of a core file (Linux fs/coredump.c: `format_corename`, core(5)).

use crate::signal::SigInfo;
use crate::task::{Resource, Task};
use crate::time::SECOND;
use std::rc::Rc;

/// The name that `core_pattern` gives; `None` when it names no file.
pub(super) fn expand(task: &Rc<Task>, info: &SigInfo) -> Option<Vec<u8>> {
    let kernel = task.kernel();
    let settings = &kernel.core_dumps;
    let pattern = settings.pattern.borrow().clone();
    if pattern.is_empty() || pattern.starts_with(b"|") || pattern.starts_with(b"@") {
        return None;
    }
    let mut has_pid = false;
    let mut name = substitute(&pattern, |letter| {
        has_pid |= letter == b'p';
        let creds = task.creds();
        Some(match letter {
            b'p' | b'P' => number(task.tgid()),
            b'i' | b'I' => number(task.tid()),
            b'u' => number(creds.uid),
            b'g' => number(creds.gid),
            b'd' => number(task.group().dumpable.get()),
            b's' => number(info.signal.number()),
            b't' => number(kernel.realtime() / SECOND),
            b'h' => escape(&kernel.hostname.borrow()),
            b'e' | b'f' => escape(task.comm_text().as_bytes()),
            b'E' => escape(&exe_path(task)),
            b'c' => number(task.rlimit(Resource::Core)),
            b'C' => number(task.hart.get()),
            _ => return None,
        })
    });
    if settings.uses_pid.get() && !has_pid {
        name.push(b'.');
        name.extend(number(task.tgid()));
    }
    Some(name)
}

fn number(value: impl ToString) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// A slash would lead elsewhere; a name of dots alone as well.
fn escape(name: &[u8]) -> Vec<u8> {
    let mut name = name.to_vec();
    if name == b"." || name == b".." {
        name[0] = b'!';
    }
    for byte in &mut name {
        if *byte == b'/' {
            *byte = b'!';
        }
    }
    name
}

fn exe_path(task: &Task) -> Vec<u8> {
    let exe = task.exe.borrow();
    exe.as_ref().map_or_else(Vec::new, |exe| exe.place().text(&exe.place().root_of_everything()))
}

/// Puts what `of` answers in place of each `%LETTER`; unknown ones disappear.
fn substitute(pattern: &[u8], mut of: impl FnMut(u8) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut name = Vec::new();
    let mut rest = pattern.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            name.push(byte);
            continue;
        }
        match rest.next() {
            None => break,
            Some(b'%') => name.push(b'%'),
            Some(letter) => name.extend(of(letter).unwrap_or_default()),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_replaced_unknown_ones_vanish_and_a_last_percent_is_dropped() {
        let of = |letter| (letter == b'p').then(|| b"42".to_vec());
        assert_eq!(substitute(b"core.%p-%z%%%", of), b"core.42-%");
        assert_eq!(substitute(b"", of), b"");
    }

    #[test]
    fn a_name_in_the_pattern_cannot_lead_out_of_its_folder() {
        assert_eq!(escape(b"a/../b"), b"a!..!b");
        assert_eq!(escape(b".."), b"!.");
    }
}
