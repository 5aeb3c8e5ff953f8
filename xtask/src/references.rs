//! Paths that a module names: `use` trees, inline paths, and paths among the tokens of macros.

use proc_macro2::{Ident, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{
    Arm, Attribute, Field, ImplItem, Item, ItemMod, ItemUse, Local, Macro, Path, TraitItem, UseTree, Variant,
    Visibility,
};

use crate::cfg::outside_tests;

/// A path as it is written, and where.
#[derive(Clone)]
pub(crate) struct Reference {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
}

/// A leaf of a `use` tree.
pub(crate) struct Use {
    pub(crate) path: Reference,
    /// The name that it gives to what it imports. `None` for `*`, and for `as _`.
    pub(crate) name: Option<String>,
    pub(crate) is_glob: bool,
}

/// The path of an external crate begins with this, as in `::url::Url`.
pub(crate) const EXTERNAL: &str = "::";

/// All that an item names outside of tests. Modules inside of it are looked at by themselves.
pub(crate) fn of_item(item: &Item) -> Vec<Reference> {
    let mut collector = Collector(Vec::new());
    collector.visit_item(item);
    collector.0
}

/// The leaves of a `use`.
pub(crate) fn leaves(item: &ItemUse) -> Vec<Use> {
    let mut found = Vec::new();
    let start = if item.leading_colon.is_some() { vec![EXTERNAL.to_owned()] } else { Vec::new() };
    flatten(&item.tree, &start, &mut found);
    found
}

fn flatten(tree: &UseTree, before: &[String], found: &mut Vec<Use>) {
    let with = |ident: &Ident| [before, &[ident.to_string()]].concat();
    let mut leaf = |segments: Vec<String>, name: Option<String>, is_glob, at: &dyn syn::spanned::Spanned| {
        let line = at.span().start().line;
        found.push(Use { path: Reference { segments, line }, name, is_glob });
    };
    match tree {
        UseTree::Path(path) => flatten(&path.tree, &with(&path.ident), found),
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, before, found)),
        UseTree::Glob(glob) => leaf(before.to_vec(), None, true, glob),
        UseTree::Name(name) if name.ident == "self" => {
            leaf(before.to_vec(), before.last().cloned(), false, &name.ident);
        }
        UseTree::Name(name) => leaf(with(&name.ident), Some(name.ident.to_string()), false, &name.ident),
        UseTree::Rename(rename) => {
            let segments = if rename.ident == "self" { before.to_vec() } else { with(&rename.ident) };
            let name = (rename.rename != "_").then(|| rename.rename.to_string());
            leaf(segments, name, false, &rename.ident);
        }
    }
}

struct Collector(Vec<Reference>);

impl Collector {
    /// Paths of two segments and more among tokens. Names alone need no look: a `use` has brought them.
    fn scan(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is_colon =
            |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.scan(group.stream()),
                TokenTree::Ident(first) => {
                    let mut segments = vec![first.to_string()];
                    while is_colon(at + 1) && is_colon(at + 2) {
                        let Some(TokenTree::Ident(next)) = tokens.get(at + 3) else { break };
                        segments.push(next.to_string());
                        at += 3;
                    }
                    if segments.len() > 1 {
                        self.0.push(Reference { segments, line: first.span().start().line });
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }
}

/// Items of a kind that may bear `#[cfg(test)]`.
macro_rules! unless_tested {
    ($($visit:ident($kind:ty) by $attributes:expr;)*) => {$(
        fn $visit(&mut self, node: &'ast $kind) {
            let attributes: fn(&$kind) -> &[Attribute] = $attributes;
            if outside_tests(attributes(node)) {
                visit::$visit(self, node);
            }
        }
    )*};
}

impl<'ast> Visit<'ast> for Collector {
    unless_tested! {
        visit_item(Item) by item_attributes;
        visit_impl_item(ImplItem) by |item| match item {
            ImplItem::Const(item) => &item.attrs,
            ImplItem::Fn(item) => &item.attrs,
            ImplItem::Type(item) => &item.attrs,
            ImplItem::Macro(item) => &item.attrs,
            _ => &[],
        };
        visit_trait_item(TraitItem) by |item| match item {
            TraitItem::Const(item) => &item.attrs,
            TraitItem::Fn(item) => &item.attrs,
            TraitItem::Type(item) => &item.attrs,
            TraitItem::Macro(item) => &item.attrs,
            _ => &[],
        };
        visit_field(Field) by |field| &field.attrs;
        visit_variant(Variant) by |variant| &variant.attrs;
        visit_local(Local) by |local| &local.attrs;
        visit_arm(Arm) by |arm| &arm.attrs;
    }

    fn visit_item_mod(&mut self, _: &'ast ItemMod) {}

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.0.extend(leaves(item).into_iter().map(|leaf| leaf.path));
    }

    fn visit_path(&mut self, path: &'ast Path) {
        let mut segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if path.leading_colon.is_some() {
            segments.insert(0, EXTERNAL.to_owned());
        }
        if let (true, Some(first)) = (segments.len() > 1, path.segments.first()) {
            self.0.push(Reference { segments, line: first.ident.span().start().line });
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invoked: &'ast Macro) {
        self.visit_path(&invoked.path);
        self.scan(invoked.tokens.clone());
    }

    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}

pub(crate) fn item_attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
