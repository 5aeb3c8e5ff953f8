//! Lines of code: neither blank, nor comment, nor documentation, nor inline test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, Meta, Token};

use crate::cfg::outside_tests;
use crate::modules::Modules;
use crate::references::item_attributes;
use crate::sources::Sources;

#[derive(Default, Clone, Copy)]
struct Count {
    files: usize,
    lines: usize,
    code: usize,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.files += other.files;
        self.lines += other.lines;
        self.code += other.code;
    }
}

/// Crates whose folders have rows of their own.
const BY_FOLDER: &[&str] = &["crates/core/src", "crates/threadwire/src"];

/// A table of all crates, in Markdown.
pub(crate) fn table(sources: &Sources) -> Result<String, String> {
    let modules = Modules::parse(sources)?;
    let mut crates: BTreeMap<String, (Count, BTreeMap<String, Count>)> = BTreeMap::new();
    let mut sum = Count::default();
    for file in modules.files() {
        let text = &sources.files[file];
        let code = code_lines(text).map_err(|error| format!("{}: {error}", file.display()))?;
        let count = Count { files: 1, lines: text.lines().count(), code };
        let Some(src) = file.ancestors().find(|folder| folder.ends_with("src")) else { continue };
        let (all, folders) = crates.entry(src.display().to_string()).or_default();
        all.add(count);
        sum.add(count);
        folders.entry(top(file, src)).or_default().add(count);
    }
    let mut table = String::from("| | files | lines | code |\n| --- | --: | --: | --: |\n");
    let mut row = |name: &str, count: Count| {
        table += &format!("| {name} | {} | {} | {} |\n", count.files, count.lines, count.code);
    };
    for (src, (all, folders)) in &crates {
        row(&format!("**{}**", src.trim_end_matches("/src")), *all);
        if BY_FOLDER.contains(&src.as_str()) {
            folders.iter().for_each(|(folder, count)| row(&format!("`{folder}`"), *count));
        }
    }
    row("**all**", sum);
    Ok(table.trim_end().to_owned())
}

/// The folder of a file right below `src`, or the file, if it lies there and has no folder.
fn top(file: &Path, src: &Path) -> String {
    let below = file.strip_prefix(src).unwrap_or(file);
    let first = below.components().next().map(|part| part.as_os_str().to_string_lossy().into_owned());
    let first = first.unwrap_or_default();
    match below.components().count() {
        1 => first,
        _ => first + "/",
    }
}

/// Whether an attribute only documents, under whatever condition.
fn is_documentation(meta: &Meta) -> bool {
    match meta {
        Meta::List(list) if list.path.is_ident("cfg_attr") => {
            let parts = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
            parts.is_ok_and(|parts| parts.iter().skip(1).all(is_documentation))
        }
        meta => meta.path().is_ident("doc"),
    }
}

fn code_lines(text: &str) -> syn::Result<usize> {
    let mut left_out = LeftOut(BTreeSet::new());
    left_out.visit_file(&syn::parse_file(text)?);
    let mut lines = BTreeSet::new();
    token_lines(text.parse()?, &mut lines);
    Ok(lines.difference(&left_out.0).count())
}

/// The lines on which a token lies. Comments are none; documentation is.
fn token_lines(tokens: TokenStream, lines: &mut BTreeSet<usize>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                lines.extend([group.span_open().start().line, group.span_close().start().line]);
                token_lines(group.stream(), lines);
            }
            token => lines.extend(token.span().start().line..=token.span().end().line),
        }
    }
}

/// The lines of documentation and of inline tests.
struct LeftOut(BTreeSet<usize>);

impl LeftOut {
    fn add(&mut self, what: &impl Spanned) {
        self.0.extend(what.span().start().line..=what.span().end().line);
    }
}

impl<'ast> Visit<'ast> for LeftOut {
    fn visit_item(&mut self, item: &'ast Item) {
        if outside_tests(item_attributes(item)) {
            visit::visit_item(self, item);
        } else {
            self.add(item);
        }
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if is_documentation(&attribute.meta) {
            self.add(attribute);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_with_code_count() {
        let text = r#"//! A crate.

/// A function.
#[cfg_attr(feature = "more", doc = "
More of it.
")]
fn f() -> &'static str {
    // A comment.
    /* Another
       one. */
    "a string
     of two lines" // and a comment
}

#[cfg(test)]
mod tests {
    #[test]
    fn t() {}
}
"#;
        assert_eq!(code_lines(text).unwrap(), 4);
    }
}
