//! What the source says of itself: tests, departures from Linux, declared differences.

use crate::tree::Tree;
use proc_macro2::{TokenStream, TokenTree};
use std::collections::BTreeMap;
use syn::visit::{self, Visit};

/// Every test function, by name.
#[derive(Default)]
pub(super) struct Tests {
    files: BTreeMap<String, Vec<String>>,
}

/// Why a test was not found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum NoTest {
    /// There is none of that name.
    Missing,
    /// There are several; these files have one.
    Ambiguous(Vec<String>),
}

impl Tests {
    /// The tests of all Rust files.
    pub(super) fn of(tree: &Tree) -> Self {
        let mut tests = Self::default();
        for (path, text) in tree.rust() {
            if let Ok(file) = syn::parse_file(text) {
                let mut finder = TestFinder { names: Vec::new() };
                finder.visit_file(&file);
                for name in finder.names {
                    tests.files.entry(name).or_default().push(path.to_owned());
                }
            }
        }
        tests
    }

    /// The file that has the test `reference`: its name, or `FILE::NAME`.
    pub(super) fn find(&self, reference: &str) -> Result<&str, NoTest> {
        let (file, name) = match reference.rsplit_once("::") {
            Some((file, name)) => (Some(file), name),
            None => (None, reference),
        };
        let files = self.files.get(name).ok_or(NoTest::Missing)?;
        let mut fitting = files.iter().filter(|path| file.is_none_or(|file| *path == file));
        match (fitting.next(), fitting.next()) {
            (Some(path), None) => Ok(path),
            (None, _) => Err(NoTest::Missing),
            (Some(_), Some(_)) => Err(NoTest::Ambiguous(files.clone())),
        }
    }
}

struct TestFinder {
    names: Vec<String>,
}

impl<'ast> Visit<'ast> for TestFinder {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if item.attrs.iter().any(|attribute| attribute.path().is_ident("test")) {
            self.names.push(item.sig.ident.to_string());
        }
        visit::visit_item_fn(self, item);
    }

    /// `proptest! { #[test] fn name(..) {..} }` is tokens, not items.
    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        if item.path.segments.last().is_some_and(|last| last.ident == "proptest") {
            self.names.extend(functions_after_test(item.tokens.clone()));
        }
    }
}

/// Names of functions that follow `#[test]`, other attributes in between.
fn functions_after_test(tokens: TokenStream) -> Vec<String> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut names = Vec::new();
    let mut is_test = false;
    for pair in tokens.windows(2) {
        match pair {
            [TokenTree::Punct(hash), TokenTree::Group(group)]
                if hash.as_char() == '#' && group.stream().to_string() == "test" =>
            {
                is_test = true;
            }
            [TokenTree::Ident(word), TokenTree::Ident(name)]
                if word == "fn" && std::mem::take(&mut is_test) =>
            {
                names.push(name.to_string());
            }
            _ => {}
        }
    }
    names
}

/// A departure from Linux, as the source states it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Divergence {
    pub(super) id: String,
    /// The rest of the comment.
    pub(super) why: String,
    /// File and line, for messages; lines move too often for the page.
    pub(super) path: String,
    pub(super) line: usize,
    /// The function around it, for the page; empty at the head of a file.
    pub(super) function: String,
}

/// All departures, by id.
pub(super) fn divergences(tree: &Tree) -> Vec<Divergence> {
    // Written in parts, so that this file has no such mark itself.
    let mark = concat!("DIVERGENCE", "(");
    let mut all = Vec::new();
    for (path, text) in tree.rust().filter(|(path, _)| path.starts_with("crates/")) {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let Some((before, rest)) = line.split_once(mark) else { continue };
            let Some((id, why)) = rest.split_once("):") else { continue };
            let slashes = before.trim();
            let mut why = why.trim().to_owned();
            for line in &lines[at + 1..] {
                match line.trim().strip_prefix(slashes).map(str::trim) {
                    Some(more) if !more.is_empty() && !more.contains(mark) => {
                        why.push(' ');
                        why.push_str(more);
                    }
                    _ => break,
                }
            }
            let function = function_around(text, at + 1);
            all.push(Divergence {
                id: id.to_owned(),
                why,
                path: path.to_owned(),
                line: at + 1,
                function,
            });
        }
    }
    all.sort_by(|a, b| a.id.cmp(&b.id));
    all
}

/// Name of the innermost function whose lines, its comments included, hold `line`.
fn function_around(text: &str, line: usize) -> String {
    struct Around {
        line: usize,
        name: String,
    }
    impl Around {
        fn look(&mut self, item: &impl syn::spanned::Spanned, name: &syn::Ident) {
            let span = item.span();
            if (span.start().line..=span.end().line).contains(&self.line) {
                self.name = name.to_string();
            }
        }
    }
    impl<'ast> Visit<'ast> for Around {
        fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
            self.look(item, &item.sig.ident);
            visit::visit_item_fn(self, item);
        }
        fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
            self.look(item, &item.sig.ident);
            visit::visit_impl_item_fn(self, item);
        }
    }
    let mut around = Around { line, name: String::new() };
    if let Ok(file) = syn::parse_file(text) {
        around.visit_file(&file);
    }
    around.name
}

/// A difference between the oracle's kernel and ours that is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Declared {
    pub(super) id: String,
    pub(super) why: String,
}

/// The declared differences: struct literals `Declared { id: "..", why: "..", .. }`.
pub(super) fn declared(tree: &Tree) -> Vec<Declared> {
    struct Finder {
        found: Vec<Declared>,
    }
    impl<'ast> Visit<'ast> for Finder {
        fn visit_expr_struct(&mut self, literal: &'ast syn::ExprStruct) {
            let field = |name: &str| {
                let wanted = |field: &&syn::FieldValue| matches!(&field.member, syn::Member::Named(member) if member == name);
                match &literal.fields.iter().find(wanted)?.expr {
                    syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => {
                        Some(text.value())
                    }
                    _ => None,
                }
            };
            if literal.path.is_ident("Declared")
                && let (Some(id), Some(why)) = (field("id"), field("why"))
            {
                self.found.push(Declared { id, why });
            }
            visit::visit_expr_struct(self, literal);
        }
    }
    let mut finder = Finder { found: Vec::new() };
    for (path, text) in tree.rust() {
        if path.starts_with("crates/cli/src/fidelity")
            && let Ok(file) = syn::parse_file(text)
        {
            finder.visit_file(&file);
        }
    }
    finder.found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_found_in_modules_and_in_property_tests() {
        let tree = Tree::of(&[
            ("a.rs", "mod tests { #[test] fn one() {} fn no_test() {} }"),
            (
                "b.rs",
                "proptest! { #![proptest_config(c)]\n #[test]\n /// Doc.\n fn two(x in 0..1u8) {} fn free() {} }\n#[test] fn one() {}",
            ),
        ]);
        let tests = Tests::of(&tree);
        assert_eq!(tests.find("two"), Ok("b.rs"));
        assert_eq!(tests.find("b.rs::one"), Ok("b.rs"));
        assert_eq!(tests.find("one"), Err(NoTest::Ambiguous(vec!["a.rs".into(), "b.rs".into()])));
        for none in ["no_test", "free", "b.rs::two_more", "a.rs::two"] {
            assert_eq!(tests.find(none), Err(NoTest::Missing), "{none}");
        }
    }

    #[test]
    fn a_divergence_comes_with_its_whole_reason_and_its_function() {
        let mark = concat!("DIVERGENCE", "(");
        let text = format!(
            "//! {mark}head-of-file): first\n//! and second.\n//!\n//! Not this.\nimpl X {{\n    fn f() {{\n        // {mark}inside): why\n        // it is so.\n        g();\n    }}\n    /// {mark}documented): on the method.\n    fn h() {{}}\n}}\n"
        );
        let found = divergences(&Tree::of(&[("crates/mm/src/a.rs", &text)]));
        let seen: Vec<_> =
            found.iter().map(|d| (d.id.as_str(), d.why.as_str(), d.function.as_str())).collect();
        assert_eq!(
            seen,
            [
                ("documented", "on the method.", "h"),
                ("head-of-file", "first and second.", ""),
                ("inside", "why it is so.", "f"),
            ]
        );
    }

    #[test]
    fn declared_differences_are_read_from_their_table() {
        let text =
            "const D: &[Declared] = &[Declared { id: \"a\", why: \"b\", explains: |_| true }];";
        let tree = Tree::of(&[("crates/cli/src/fidelity/declared.rs", text), ("other.rs", text)]);
        assert_eq!(declared(&tree), [Declared { id: "a".into(), why: "b".into() }]);
    }
}
