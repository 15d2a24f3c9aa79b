//! The system call table of crates/linux, read from its source, and handlers that are stubs.
//!
//! A table is `&[now(NUMBER, NAME, SUPPORT, HANDLER), waits!(..), ..]`. A handler that never looks
//! at its task can neither know nor change anything, so that whatever it answers is made up: it is
//! a stub, unless its answer follows from its arguments.

use crate::tree::Tree;
use anyhow::{Context as _, Result, bail};
use proc_macro2::{TokenStream, TokenTree};
use std::collections::BTreeMap;
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Expr, Lit, Token};

/// Where the tables are.
const FOLDER: &str = "crates/linux/src/syscall/";

/// How much of a call there is, as the table declares it (`kilburn_linux::Support`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Support {
    Full,
    Partial(String),
    Absent(String),
}

/// What a handler looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Handler {
    /// Its task, and so it may do something.
    Real,
    /// Its arguments alone.
    ArgumentsOnly,
    /// Nothing: it answers a constant.
    Constant,
}

/// A call of the table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) number: u16,
    pub(super) name: String,
    pub(super) support: Support,
    pub(super) handler: Handler,
    /// File of the entry.
    pub(super) path: String,
}

/// All entries of all tables, by number.
///
/// # Errors
/// An entry that cannot be read.
pub(super) fn table(tree: &Tree) -> Result<Vec<Entry>> {
    let mut files = Vec::new();
    for (path, text) in tree.rust().filter(|(path, _)| path.starts_with(FOLDER)) {
        files.push((path, syn::parse_file(text).with_context(|| path.to_owned())?));
    }
    let mut handlers = Handlers::default();
    for (path, file) in &files {
        handlers.path = (*path).to_owned();
        handlers.visit_file(file);
    }
    let mut all = Vec::new();
    for (path, file) in &files {
        let constants = constants(file);
        for item in &file.items {
            if let syn::Item::Const(item) = item
                && item.ident == "TABLE"
            {
                for row in rows(&item.expr).with_context(|| format!("TABLE of {path}"))? {
                    all.push(entry(path, &row, &constants, &handlers)?);
                }
            }
        }
    }
    all.sort_by_key(|entry| entry.number);
    Ok(all)
}

/// The arguments of each `now(..)` or `waits!(..)` of a table.
fn rows(table: &Expr) -> Result<Vec<Vec<Expr>>> {
    let Expr::Reference(reference) = table else { bail!("not &[..]") };
    let Expr::Array(array) = &*reference.expr else { bail!("not &[..]") };
    array
        .elems
        .iter()
        .map(|element| match element {
            Expr::Call(call) => Ok(call.args.iter().cloned().collect()),
            Expr::Macro(call) => {
                let parser = Punctuated::<Expr, Token![,]>::parse_terminated;
                let args = call.mac.parse_body_with(parser).context("arguments of waits!")?;
                Ok(args.into_iter().collect())
            }
            _ => bail!("an entry that is neither now(..) nor waits!(..)"),
        })
        .collect()
}

/// Constants of a file, by name: reasons, and whole supports.
fn constants(file: &syn::File) -> BTreeMap<String, Expr> {
    let items = file.items.iter().filter_map(|item| match item {
        syn::Item::Const(item) => Some((item.ident.to_string(), (*item.expr).clone())),
        _ => None,
    });
    items.collect()
}

fn entry(
    path: &str,
    row: &[Expr],
    constants: &BTreeMap<String, Expr>,
    handlers: &Handlers,
) -> Result<Entry> {
    let [number, name, support, handler] = row else { bail!("{path}: an entry without 4 parts") };
    let name = string(name, constants).with_context(|| format!("{path}: a name"))?;
    let Expr::Lit(syn::ExprLit { lit: Lit::Int(number), .. }) = number else {
        bail!("{path}: the number of {name} is no literal")
    };
    let support = self::support(support, constants)
        .with_context(|| format!("{path}: how much there is of {name}"))?;
    let handler = match handler {
        Expr::Closure(closure) => {
            let named: Vec<String> = closure.inputs.iter().map(parameter).collect();
            looks_at(&named, &tokens(&closure.body))
        }
        Expr::Path(handler) => {
            let last = handler.path.segments.last().context("a handler")?.ident.to_string();
            handlers
                .find(path, &last)
                .with_context(|| format!("{path}: {last}, the handler of {name}, is not found"))?
        }
        _ => bail!("{path}: the handler of {name} is neither a function nor a closure"),
    };
    Ok(Entry { number: number.base10_parse()?, name, support, handler, path: path.to_owned() })
}

fn string(expr: &Expr, constants: &BTreeMap<String, Expr>) -> Option<String> {
    match expr {
        Expr::Lit(syn::ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
        Expr::Path(path) => string(constants.get(&path.path.get_ident()?.to_string())?, constants),
        _ => None,
    }
}

fn support(expr: &Expr, constants: &BTreeMap<String, Expr>) -> Option<Support> {
    match expr {
        Expr::Path(path) => match path.path.segments.last()?.ident.to_string().as_str() {
            "Full" => Some(Support::Full),
            constant => support(constants.get(constant)?, constants),
        },
        Expr::Call(call) => {
            let Expr::Path(variant) = &*call.func else { return None };
            let why = string(call.args.first()?, constants)?;
            match variant.path.segments.last()?.ident.to_string().as_str() {
                "Partial" => Some(Support::Partial(why)),
                "Absent" => Some(Support::Absent(why)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// What the functions of the folder look at, by file and name.
#[derive(Default)]
struct Handlers {
    path: String,
    found: BTreeMap<String, Vec<(String, Handler)>>,
    /// Macros, and how often their rules name a task.
    rules: BTreeMap<String, usize>,
}

impl Handlers {
    fn note(&mut self, name: String, handler: Handler) {
        self.found.entry(name).or_default().push((self.path.clone(), handler));
    }

    /// The one of the same file before one that any other file has.
    fn find(&self, path: &str, name: &str) -> Option<Handler> {
        let all = self.found.get(name)?;
        let own = all.iter().find(|(file, _)| file == path);
        own.or_else(|| all.first()).map(|(_, handler)| *handler)
    }
}

impl<'ast> Visit<'ast> for Handlers {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        let named: Vec<String> = item
            .sig
            .inputs
            .iter()
            .filter_map(|input| match input {
                syn::FnArg::Typed(typed) => Some(parameter(&typed.pat)),
                syn::FnArg::Receiver(_) => None,
            })
            .collect();
        let handler = looks_at(&named, &tokens(&item.block));
        self.note(item.sig.ident.to_string(), handler);
        visit::visit_item_fn(self, item);
    }

    /// Handlers that a macro of the file makes, `macro_rules!` first and then its use: what it
    /// makes of each name is in its rules.
    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        let tokens = &item.mac.tokens;
        match &item.ident {
            Some(rules) => {
                self.rules.insert(rules.to_string(), occurrences(tokens.clone(), "task"));
            }
            None => {
                let rules = item.mac.path.get_ident().map(ToString::to_string).unwrap_or_default();
                // Once is the parameter.
                let looks = self.rules.get(&rules).is_some_and(|count| *count > 1);
                let handler = if looks { Handler::Real } else { Handler::Constant };
                for token in tokens.clone() {
                    if let TokenTree::Ident(name) = token {
                        self.note(name.to_string(), handler);
                    }
                }
            }
        }
    }
}

/// How often a word occurs.
fn occurrences(tokens: TokenStream, word: &str) -> usize {
    tokens
        .into_iter()
        .map(|token| match token {
            TokenTree::Group(group) => occurrences(group.stream(), word),
            TokenTree::Ident(ident) => usize::from(ident == word),
            _ => 0,
        })
        .sum()
}

/// Name of a parameter; `_` when it has none.
fn parameter(pattern: &syn::Pat) -> String {
    match pattern {
        syn::Pat::Ident(pattern) => pattern.ident.to_string(),
        syn::Pat::Type(typed) => parameter(&typed.pat),
        // Taken apart: `Args([a, b, ..])` is used by whoever wrote that.
        _ => "_".to_owned(),
    }
}

fn tokens(item: &impl quote::ToTokens) -> TokenStream {
    item.to_token_stream()
}

/// What a body looks at: the first of its parameters is the task.
fn looks_at(parameters: &[String], body: &TokenStream) -> Handler {
    let used = |name: &String| name != "_" && mentions(body.clone(), name);
    match (parameters.first().is_some_and(used), parameters.iter().skip(1).any(used)) {
        (true, _) => Handler::Real,
        (false, true) => Handler::ArgumentsOnly,
        (false, false) => Handler::Constant,
    }
}

/// Whether `name` occurs, `let _ = name;` apart, which only silences a lint.
fn mentions(body: TokenStream, name: &str) -> bool {
    let tokens: Vec<TokenTree> = body.into_iter().collect();
    let text = |at: usize| tokens.get(at).map(ToString::to_string).unwrap_or_default();
    tokens.iter().enumerate().any(|(at, token)| match token {
        TokenTree::Group(group) => mentions(group.stream(), name),
        TokenTree::Ident(ident) if ident == name => {
            let silenced = at >= 3
                && text(at - 3) == "let"
                && text(at - 2) == "_"
                && text(at - 1) == "="
                && text(at + 1) == ";";
            !silenced
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"
        const WHY: &str = "no terminals";
        const SOME: Support = Support::Partial("kept and given back");
        pub(crate) const TABLE: &[Entry] = &[
            now(7, "real", Support::Full, sys_real),
            waits!(3, "stub", Support::Absent(WHY), sys_stub),
            waits!(4, "silenced", SOME, sys_silenced),
            now(5, "pure", Support::Full, |_, args| Ok(args.raw(0))),
            now(6, "elsewhere", Support::Partial("x"), names::sys_far),
        ];
        fn sys_real(task: &Rc<Task>, _: Args) -> SysResult { Ok(task.pid()) }
        async fn sys_stub(_task: &Rc<Task>, _args: Args) -> SysResult { Ok(0) }
        async fn sys_silenced(task: &Rc<Task>, args: Args) -> SysResult {
            let _ = task;
            let _ = args;
            Err(Errno::ENOSYS.into())
        }
    "#;

    #[test]
    fn tables_are_read_with_what_their_handlers_look_at() {
        let far = "fn sys_far(task: &Rc<Task>, a: Args) -> SysResult { task.go(a) }";
        let tree = Tree::of(&[
            ("crates/linux/src/syscall/a.rs", SOURCE),
            ("crates/linux/src/syscall/names.rs", far),
        ]);
        let table = table(&tree).expect("well-formed");
        let seen: Vec<_> = table.iter().map(|e| (e.number, e.name.as_str(), e.handler)).collect();
        assert_eq!(
            seen,
            [
                (3, "stub", Handler::Constant),
                (4, "silenced", Handler::Constant),
                (5, "pure", Handler::ArgumentsOnly),
                (6, "elsewhere", Handler::Real),
                (7, "real", Handler::Real),
            ]
        );
        assert_eq!(table[0].support, Support::Absent("no terminals".into()));
        assert_eq!(table[1].support, Support::Partial("kept and given back".into()));
        assert_eq!(table[4].support, Support::Full);
    }

    #[test]
    fn handlers_that_a_macro_makes_are_judged_by_its_rules() {
        let source = |body: &str| {
            format!(
                "const TABLE: &[Entry] = &[waits!(5, \"made\", Support::Full, sys_made)];\n\
                 macro_rules! made {{ ($name:ident) => {{ async fn $name(task: &Rc<Task>) -> SysResult {{ {body} }} }}; }}\n\
                 made! {{ sys_made }}"
            )
        };
        for (body, handler) in [("task.go()", Handler::Real), ("Ok(0)", Handler::Constant)] {
            let tree = Tree::of(&[("crates/linux/src/syscall/a.rs", &source(body))]);
            assert_eq!(table(&tree).expect("well-formed")[0].handler, handler);
        }
    }

    #[test]
    fn an_entry_that_cannot_be_read_is_an_error() {
        for row in [
            "const TABLE: &[Entry] = &[Entry { number: 1 }];",
            "const TABLE: &[Entry] = &[now(1, \"x\", Support::Full, lost)];",
            "const TABLE: &[Entry] = &[now(1, \"x\", Support::Sometimes, |_, _| Ok(0))];",
            "const TABLE: &[Entry] = &[now(N, \"x\", Support::Full, |_, _| Ok(0))];",
        ] {
            let tree = Tree::of(&[("crates/linux/src/syscall/a.rs", row)]);
            assert!(table(&tree).is_err(), "{row}");
        }
    }
}
