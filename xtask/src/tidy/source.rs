//! Rules about code: function length, unfinished parts, reasons, clocks, DIVERGENCE ids.
//!
//! They read tokens, not text: a word in a comment or a string breaks no rule.

use super::Finding;
use crate::tree::Tree;
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::collections::BTreeMap;
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

/// Lines a function may have, from its signature to its closing brace. Only ever lowered.
const FUNCTION_LINES_MAX: usize = 100;

/// Crates whose runs must repeat: no clock of the host.
const REPEATABLE: [&str; 6] = ["addr", "paging", "mm", "mmu", "riscv", "linux"];

struct Functions<'p> {
    path: &'p str,
    findings: Vec<Finding>,
}

impl Functions<'_> {
    fn measure(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let (first, last) = (signature.span().start().line, block.span().end().line);
        let lines = last + 1 - first;
        if lines > FUNCTION_LINES_MAX {
            let what = format!(
                "fn {} has {lines} lines; the bound is {FUNCTION_LINES_MAX}",
                signature.ident
            );
            self.findings.push(Finding::at(self.path, first, what));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.measure(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.measure(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.measure(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

/// A function fits a screen, more or less: [`FUNCTION_LINES_MAX`].
pub(super) fn functions_are_short(tree: &Tree) -> Vec<Finding> {
    let mut all = Vec::new();
    for (path, text) in tree.rust() {
        match syn::parse_file(text) {
            Ok(file) => {
                let mut functions = Functions { path, findings: Vec::new() };
                functions.visit_file(&file);
                all.append(&mut functions.findings);
            }
            Err(error) => all.push(Finding::at(path, error.span().start().line, "does not parse")),
        }
    }
    all
}

/// Calls `look` with every run of tokens that starts anywhere in the file, groups included.
fn each_position(text: &str, mut look: impl FnMut(&[TokenTree])) {
    fn inside(stream: TokenStream, look: &mut dyn FnMut(&[TokenTree])) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        for i in 0..tokens.len() {
            look(&tokens[i..]);
            if let TokenTree::Group(group) = &tokens[i] {
                inside(group.stream(), look);
            }
        }
    }
    if let Ok(stream) = text.parse::<TokenStream>() {
        inside(stream, &mut look);
    }
}

fn is_word(token: &TokenTree, words: &[&str]) -> bool {
    matches!(token, TokenTree::Ident(ident) if words.iter().any(|word| ident == word))
}

fn is_mark(token: &TokenTree, mark: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == mark)
}

/// The tokens of `[...]` when `tokens` starts with an attribute, `#[...]` or `#![...]`.
fn attribute(tokens: &[TokenTree]) -> Option<Vec<TokenTree>> {
    let group = match tokens {
        [hash, TokenTree::Group(group), ..] if is_mark(hash, '#') => group,
        [hash, bang, TokenTree::Group(group), ..] if is_mark(hash, '#') && is_mark(bang, '!') => {
            group
        }
        _ => return None,
    };
    (group.delimiter() == Delimiter::Bracket).then(|| group.stream().into_iter().collect())
}

/// No `todo!`, `unimplemented!`, `#[ignore]`.
pub(super) fn nothing_unfinished(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.rust() {
        each_position(text, |tokens| {
            let line = tokens[0].span().start().line;
            if let [word, bang, ..] = tokens
                && is_word(word, &["todo", "unimplemented"])
                && is_mark(bang, '!')
            {
                findings.push(Finding::at(path, line, format!("{word}! is left")));
            }
            if attribute(tokens)
                .is_some_and(|inner| inner.first().is_some_and(|t| is_word(t, &["ignore"])))
            {
                findings.push(Finding::at(path, line, "an ignored test"));
            }
        });
    }
    findings
}

/// `allow` and `expect` attributes state a reason.
pub(super) fn exceptions_have_reasons(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.rust() {
        each_position(text, |tokens| {
            let Some(inner) = attribute(tokens) else { return };
            if let [word, TokenTree::Group(lints), ..] = inner.as_slice()
                && is_word(word, &["allow", "expect"])
                && !lints.stream().into_iter().any(|t| is_word(&t, &["reason"]))
            {
                let line = tokens[0].span().start().line;
                findings.push(Finding::at(path, line, format!("{word} without a reason")));
            }
        });
    }
    findings
}

/// Crates whose runs must repeat never ask the host what time it is.
pub(super) fn no_ambient_clock(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in REPEATABLE {
        let folder = format!("crates/{name}/src/");
        for (path, text) in tree.rust().filter(|(path, _)| path.starts_with(&folder)) {
            each_position(text, |tokens| {
                if let [clock, colon, _, now, ..] = tokens
                    && is_word(clock, &["Instant", "SystemTime"])
                    && is_mark(colon, ':')
                    && is_word(now, &["now"])
                {
                    let line = clock.span().start().line;
                    findings.push(Finding::at(
                        path,
                        line,
                        format!("{clock}::now: clocks are passed in"),
                    ));
                }
            });
        }
    }
    findings
}

/// `DIVERGENCE(id)` marks a departure from Linux once; its id is lower-case words with hyphens.
pub(super) fn divergences_are_unique(tree: &Tree) -> Vec<Finding> {
    // Written in parts, so that this file has no such mark itself.
    let mark = concat!("DIVERGENCE", "(");
    let mut seen: BTreeMap<&str, String> = BTreeMap::new();
    let mut findings = Vec::new();
    for (path, text) in tree.rust() {
        for (i, line) in text.lines().enumerate() {
            let Some((_, rest)) = line.split_once(mark) else { continue };
            let id = rest.split_once(')').map_or("", |(id, _)| id);
            let well_formed = !id.is_empty()
                && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            if !well_formed {
                findings.push(Finding::at(
                    path,
                    i + 1,
                    format!("divergence id {id:?} is not lower-case-with-hyphens"),
                ));
            } else if let Some(first) = seen.get(id) {
                findings.push(Finding::at(
                    path,
                    i + 1,
                    format!("divergence {id} was used before, at {first}"),
                ));
            } else {
                seen.insert(id, format!("{path}:{}", i + 1));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(findings: Vec<Finding>) -> Vec<(String, usize)> {
        findings.into_iter().map(|f| (f.path, f.line)).collect()
    }

    #[test]
    fn a_long_function_is_found_wherever_it_stands() {
        let body = |n| "    x();\n".repeat(n);
        let text = format!(
            "fn short() {{\n{}}}\nfn long() {{\n{}}}\nimpl X {{\n fn m() {{\n{} }}\n}}\n",
            body(FUNCTION_LINES_MAX - 2),
            body(FUNCTION_LINES_MAX - 1),
            body(FUNCTION_LINES_MAX)
        );
        let lines: Vec<usize> =
            functions_are_short(&Tree::of(&[("a.rs", &text)])).iter().map(|f| f.line).collect();
        assert_eq!(lines, [FUNCTION_LINES_MAX + 1, 2 * FUNCTION_LINES_MAX + 3]);
    }

    #[test]
    fn unfinished_code_is_found_but_not_in_comments_or_strings() {
        let tree = Tree::of(&[
            (
                "a.rs",
                "fn f() {\n    g(|| todo!());\n}\n// todo!()\nconst S: &str = \"unimplemented!()\";\n",
            ),
            ("b.rs", "#[test]\n#[ignore = \"slow\"]\nfn t() { unimplemented!(\"x\") }\n"),
        ]);
        assert_eq!(
            places(nothing_unfinished(&tree)),
            [("a.rs".to_owned(), 2), ("b.rs".to_owned(), 2), ("b.rs".to_owned(), 3)]
        );
    }

    #[test]
    fn an_exception_without_a_reason_is_found() {
        let tree = Tree::of(&[(
            "a.rs",
            "#![allow(dead_code)]\n#[expect(unused, reason = \"shown\")]\nfn f() {\n    #[expect(unused)]\n    let x = 1;\n    y.expect(\"no attribute\");\n}\n",
        )]);
        assert_eq!(
            places(exceptions_have_reasons(&tree)),
            [("a.rs".to_owned(), 1), ("a.rs".to_owned(), 4)]
        );
    }

    #[test]
    fn a_host_clock_in_a_repeatable_crate_is_found() {
        let text = "fn f() { let t = std::time::Instant::now(); }\n";
        let tree = Tree::of(&[("crates/linux/src/a.rs", text), ("crates/cli/src/a.rs", text)]);
        assert_eq!(places(no_ambient_clock(&tree)), [("crates/linux/src/a.rs".to_owned(), 1)]);
    }

    #[test]
    fn a_divergence_named_twice_or_badly_is_found() {
        let mark = concat!("// DIVERGENCE", "(");
        let text = format!("{mark}no-thp): why\n{mark}Shouting): why\n");
        let again = format!("\n{mark}no-thp): why\n");
        let tree = Tree::of(&[("a.rs", &text), ("b.rs", &again)]);
        assert_eq!(
            places(divergences_are_unique(&tree)),
            [("a.rs".to_owned(), 2), ("b.rs".to_owned(), 2)]
        );
    }
}
