//! `#!` scripts (Linux 6.18 fs/binfmt_script.c: `load_script`).

use crate::exec::{ExecError, HEAD_BYTES};
use kilburn_addr::Errno;

/// What a script's first line says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Script {
    pub(crate) interpreter: Vec<u8>,
    /// Everything after it, as one argument.
    argument: Option<Vec<u8>>,
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Parses the first line; `None` when the file is no script.
///
/// # Errors
/// ENOEXEC when no interpreter is named, or its path may be cut off.
pub(crate) fn parse(head: &[u8]) -> Result<Option<Script>, ExecError> {
    let Some(line) = head.strip_prefix(b"#!") else { return Ok(None) };
    let refused = |reason: &str| ExecError { errno: Errno::ENOEXEC, reason: reason.into() };
    let line = match line.iter().position(|byte| *byte == b'\n') {
        Some(end) => &line[..end],
        // Linux sees a buffer filled up with zeros: a short file's line ends with the file.
        None if head.len() < HEAD_BYTES => line,
        None => {
            // The line is longer than what was read: the path at least must be whole.
            let start = line.iter().position(|byte| !is_blank(*byte));
            let whole = start.is_some_and(|start| {
                line[start..].iter().any(|byte| is_blank(*byte) || *byte == 0)
            });
            if !whole {
                return Err(refused("interpreter line too long"));
            }
            line
        }
    };
    let line = line.split(|byte| *byte == 0).next().unwrap_or_default();
    let line = line.trim_blank();
    if line.is_empty() {
        return Err(refused("script without interpreter"));
    }
    let end = line.iter().position(|byte| is_blank(*byte)).unwrap_or(line.len());
    let (interpreter, rest) = line.split_at(end);
    let rest = rest.trim_blank();
    let argument = (!rest.is_empty()).then(|| rest.to_vec());
    Ok(Some(Script { interpreter: interpreter.to_vec(), argument }))
}

trait TrimBlank {
    /// Without blanks at both ends.
    fn trim_blank(&self) -> &Self;
}

impl TrimBlank for [u8] {
    /// Without blanks at both ends (the end's are of no use to anybody).
    fn trim_blank(&self) -> &Self {
        let start = self.iter().position(|byte| !is_blank(*byte)).unwrap_or(self.len());
        let end = self.iter().rposition(|byte| !is_blank(*byte)).map_or(start, |last| last + 1);
        &self[start..end]
    }
}

impl Script {
    /// The arguments of the interpreter: its path, its argument, the script's path in place of
    /// argv[0], the rest.
    pub(crate) fn rewrite(&self, argv: &mut Vec<Vec<u8>>, script_path: Vec<u8>) {
        let head = std::iter::once(self.interpreter.clone())
            .chain(self.argument.clone())
            .chain(std::iter::once(script_path));
        let first = usize::from(!argv.is_empty());
        argv.splice(..first, head);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> (String, Option<String>) {
        let script = parse(text.as_bytes()).expect("a script").expect("starts with #!");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("ascii");
        (text(script.interpreter), script.argument.map(text))
    }

    #[test]
    fn the_rest_of_the_line_is_one_argument() {
        assert_eq!(line("#!/bin/sh\necho"), ("/bin/sh".into(), None));
        assert_eq!(line("#! /bin/awk  -f x \n"), ("/bin/awk".into(), Some("-f x".into())));
        assert_eq!(line("#!/bin/sh"), ("/bin/sh".into(), None));
        assert!(parse(b"\x7fELF").expect("no error").is_none());
    }

    #[test]
    fn a_line_without_a_whole_path_is_refused() {
        assert_eq!(parse(b"#!  \n").expect_err("empty").errno, Errno::ENOEXEC);
        let long = [b"#!/".as_slice(), &[b'x'; 300]].concat();
        assert!(parse(&long[..HEAD_BYTES]).is_err());
        let argument = [b"#!/x ".as_slice(), &[b'y'; 300]].concat();
        assert!(parse(&argument[..HEAD_BYTES]).expect("whole path").is_some());
    }

    #[test]
    fn argv_0_gives_way_to_the_script() {
        let script = parse(b"#!/bin/sh -e\n").expect("ok").expect("script");
        let mut argv = vec![b"name".to_vec(), b"arg".to_vec()];
        script.rewrite(&mut argv, b"./s".to_vec());
        assert_eq!(argv, [b"/bin/sh".to_vec(), b"-e".to_vec(), b"./s".to_vec(), b"arg".to_vec()]);
    }
}
