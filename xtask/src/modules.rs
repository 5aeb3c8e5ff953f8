//! The tree of modules of each crate, and the file in which a path's item is defined.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use syn::Item;

use crate::cfg::outside_tests;
use crate::references::{EXTERNAL, Reference, item_attributes, leaves, of_item};
use crate::sources::Sources;

/// Place of a module in `Modules`.
type Id = usize;

pub(crate) struct Modules {
    modules: Vec<Module>,
    /// The roots of libraries, by the names by which other crates know them.
    libraries: HashMap<String, Id>,
}

struct Module {
    root: Id,
    parent: Option<Id>,
    file: PathBuf,
    /// Names of modules from the root to the file; inline modules are part of their file.
    path: Vec<String>,
    names: HashMap<String, Vec<Name>>,
    globs: Vec<Vec<String>>,
    references: Vec<Reference>,
}

#[derive(Clone)]
enum Name {
    Module(Id),
    Item,
    Import(Vec<String>),
}

/// What a path leads to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Found {
    Module(Id),
    /// An item that is defined in this module.
    Item(Id),
}

/// One file names something that another defines.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Import {
    pub(crate) from: PathBuf,
    pub(crate) line: usize,
    pub(crate) to: PathBuf,
    /// The path as it is written.
    pub(crate) what: String,
    /// Both files as modules of their crate, where it is the same.
    pub(crate) within: Option<(Vec<String>, Vec<String>)>,
}

impl Modules {
    pub(crate) fn parse(sources: &Sources) -> Result<Self, String> {
        let mut modules = Self { modules: Vec::new(), libraries: HashMap::new() };
        for target in &sources.targets {
            let root = modules.modules.len();
            let folder = target.root.parent().unwrap_or(Path::new(""));
            modules.add_file(sources, &target.root, folder, root, None, Vec::new())?;
            if !target.name.is_empty() {
                modules.libraries.insert(target.name.clone(), root);
            }
        }
        Ok(modules)
    }

    /// All imports between files, each pair of a place and a target once.
    pub(crate) fn imports(&self) -> BTreeSet<Import> {
        let mut imports = BTreeSet::new();
        for (id, module) in self.modules.iter().enumerate() {
            for reference in &module.references {
                for found in self.resolve(id, &reference.segments, &mut HashSet::new()) {
                    let (Found::Module(to) | Found::Item(to)) = found;
                    let to = &self.modules[to];
                    if to.file != module.file {
                        let within = (to.root == module.root).then(|| (module.path.clone(), to.path.clone()));
                        imports.insert(Import {
                            from: module.file.clone(),
                            line: reference.line,
                            to: to.file.clone(),
                            what: reference.segments.join("::"),
                            within,
                        });
                    }
                }
            }
        }
        imports
    }

    /// All files of modules that are there outside of tests.
    pub(crate) fn files(&self) -> BTreeSet<&Path> {
        self.modules.iter().map(|module| module.file.as_path()).collect()
    }

    fn add_file(
        &mut self,
        sources: &Sources,
        file: &Path,
        folder: &Path,
        root: Id,
        parent: Option<Id>,
        path: Vec<String>,
    ) -> Result<Id, String> {
        let text = sources.files.get(file).ok_or_else(|| format!("{}: no such file", file.display()))?;
        let parsed = syn::parse_file(text)
            .map_err(|error| format!("{}:{}: {error}", file.display(), error.span().start().line))?;
        self.add(sources, &parsed.items, file, folder, root, parent, path)
    }

    #[expect(clippy::too_many_arguments, reason = "each is a part of where a module stands")]
    fn add(
        &mut self,
        sources: &Sources,
        items: &[Item],
        file: &Path,
        folder: &Path,
        root: Id,
        parent: Option<Id>,
        path: Vec<String>,
    ) -> Result<Id, String> {
        let id = self.modules.len();
        self.modules.push(Module {
            root,
            parent,
            file: file.to_owned(),
            path: path.clone(),
            names: HashMap::new(),
            globs: Vec::new(),
            references: Vec::new(),
        });
        for item in items.iter().filter(|item| outside_tests(item_attributes(item))) {
            let name = match item {
                Item::Mod(module) => {
                    let name = module.ident.to_string();
                    let below = folder.join(&name);
                    let child = if let Some((_, items)) = &module.content {
                        self.add(sources, items, file, &below, root, Some(id), path.clone())?
                    } else {
                        let files = [below.with_extension("rs"), below.join("mod.rs")];
                        let found = files.iter().find(|file| sources.files.contains_key(*file));
                        let found =
                            found.ok_or_else(|| format!("{}: no file for `mod {name}`", file.display()))?;
                        let path = [path.as_slice(), std::slice::from_ref(&name)].concat();
                        self.add_file(sources, found, &below, root, Some(id), path)?
                    };
                    Some((name, Name::Module(child)))
                }
                Item::Use(item) => {
                    for leaf in leaves(item) {
                        if leaf.is_glob {
                            self.modules[id].globs.push(leaf.path.segments);
                        } else if let Some(name) = leaf.name {
                            let import = Name::Import(leaf.path.segments);
                            self.modules[id].names.entry(name).or_default().push(import);
                        }
                    }
                    None
                }
                item => name_of(item).map(|name| (name, Name::Item)),
            };
            if let Some((name, what)) = name {
                self.modules[id].names.entry(name).or_default().push(what);
            }
            self.modules[id].references.extend(of_item(item));
        }
        Ok(id)
    }

    /// What a path that is written in `module` leads to. Nothing for paths into other people's crates.
    fn resolve(&self, module: Id, segments: &[String], seen: &mut HashSet<(Id, String)>) -> Vec<Found> {
        let Some((first, mut rest)) = segments.split_first() else { return Vec::new() };
        let mut found = match first.as_str() {
            "crate" => vec![Found::Module(self.modules[module].root)],
            "self" => vec![Found::Module(module)],
            "super" => self.modules[module].parent.map(Found::Module).into_iter().collect(),
            EXTERNAL => {
                let Some((library, after)) = rest.split_first() else { return Vec::new() };
                rest = after;
                self.library(library)
            }
            name => {
                let local = self.look_up(module, name, rest.is_empty(), seen);
                if local.is_empty() { self.library(name) } else { local }
            }
        };
        for (at, segment) in rest.iter().enumerate() {
            let is_last = at + 1 == rest.len();
            let mut next = Vec::new();
            for found in found {
                match found {
                    Found::Module(id) if segment == "super" => {
                        next.extend(self.modules[id].parent.map(Found::Module));
                    }
                    Found::Module(id) => {
                        let names = self.look_up(id, segment, is_last, seen);
                        // What a macro makes is not seen; it belongs to the module that it is looked for in.
                        if names.is_empty() { next.push(Found::Item(id)) } else { next.extend(names) }
                    }
                    // A variant or an associated item.
                    item @ Found::Item(_) => next.push(item),
                }
            }
            found = next;
        }
        found.sort();
        found.dedup();
        found
    }

    fn library(&self, name: &str) -> Vec<Found> {
        self.libraries.get(name).copied().map(Found::Module).into_iter().collect()
    }

    /// What a module calls by this name. At the end of a path an item goes before a module of the same name.
    fn look_up(&self, module: Id, name: &str, is_last: bool, seen: &mut HashSet<(Id, String)>) -> Vec<Found> {
        if !seen.insert((module, name.to_owned())) {
            return Vec::new();
        }
        let of = &self.modules[module];
        let mut found = Vec::new();
        for named in of.names.get(name).into_iter().flatten() {
            match named {
                Name::Module(id) => found.push(Found::Module(*id)),
                Name::Item => found.push(Found::Item(module)),
                Name::Import(path) => found.extend(self.resolve(module, path, seen)),
            }
        }
        if found.is_empty() {
            for glob in &of.globs {
                for from in self.resolve(module, glob, seen) {
                    if let Found::Module(from) = from {
                        found.extend(self.look_up(from, name, is_last, seen));
                    }
                }
            }
        }
        let is_wanted = |found: &Found| matches!(found, Found::Item(_)) == is_last;
        if found.iter().any(is_wanted) {
            found.retain(is_wanted);
        }
        seen.remove(&(module, name.to_owned()));
        found
    }
}

fn name_of(item: &Item) -> Option<String> {
    Some(match item {
        Item::Const(item) => item.ident.to_string(),
        Item::Enum(item) => item.ident.to_string(),
        Item::Fn(item) => item.sig.ident.to_string(),
        Item::Macro(item) => item.ident.as_ref()?.to_string(),
        Item::Static(item) => item.ident.to_string(),
        Item::Struct(item) => item.ident.to_string(),
        Item::Trait(item) => item.ident.to_string(),
        Item::TraitAlias(item) => item.ident.to_string(),
        Item::Type(item) => item.ident.to_string(),
        Item::Union(item) => item.ident.to_string(),
        _ => return None,
    })
}
