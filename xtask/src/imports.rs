//! Direction of imports: no file imports from a floor above its own, no folder imports in a circle with its neighbours.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::floors::Floor;
use crate::graph::cycles;
use crate::modules::{Import, Modules};

/// How many imports are shown from one part of a circle to the next.
const SHOWN: usize = 3;

/// What breaks a rule, one text for each, and how many imports were looked at.
pub(crate) struct Verdict {
    pub(crate) problems: Vec<String>,
    pub(crate) looked_at: usize,
}

/// What is allowed, and what is not allowed but there.
#[derive(Default)]
pub(crate) struct Rules<'r> {
    pub(crate) floors: &'r [Floor],
    pub(crate) exceptions: &'r [(&'r str, &'r str)],
    pub(crate) knots: &'r [&'r str],
}

pub(crate) fn check(modules: &Modules, rules: &Rules<'_>) -> Verdict {
    let mut problems = Vec::new();
    for file in modules.files() {
        if floor_of(file, rules.floors).is_none() {
            problems.push(format!("{}:1: stands on no floor: name its folder in floors.rs", file.display()));
        }
    }
    let all = modules.imports();
    let is_exception = |import: &Import, (from, to): &(&str, &str)| {
        import.from == Path::new(from) && import.to == Path::new(to)
    };
    for exception in rules.exceptions {
        if !all.iter().any(|import| is_exception(import, exception)) {
            let (from, to) = exception;
            problems.push(format!("{from}:1: imports from {to} no more: remove the exception in floors.rs"));
        }
    }
    let imports: Vec<_> =
        all.iter().filter(|import| !rules.exceptions.iter().any(|one| is_exception(import, one))).collect();
    problems.extend(imports.iter().filter_map(|import| misdirected(import, rules.floors)));
    // Files of one folder may import one another as they like, and so may a folder and what is inside of it.
    let (knots, circles): (Vec<_>, Vec<_>) = circles(&imports)
        .into_iter()
        .filter(|circle| circle.folders > 1)
        .partition(|circle| rules.knots.contains(&circle.place.as_str()));
    problems.extend(circles.into_iter().map(|circle| circle.complaint));
    for knot in rules.knots {
        if !knots.iter().any(|circle| circle.place == *knot) {
            problems.push(format!("{knot}:1: has no circle any more: remove it from the knots in floors.rs"));
        }
    }
    Verdict { problems, looked_at: all.len() }
}

/// The complaint about an import from a floor above, or from beside where that is forbidden.
fn misdirected(import: &Import, floors: &[Floor]) -> Option<String> {
    let (from, from_path) = floor_of(&import.from, floors)?;
    let (to, to_path) = floor_of(&import.to, floors)?;
    let what = written(import);
    if to.number > from.number {
        let (file, from, to) = (import.to.display(), from.number, to.number);
        Some(format!("{what} imports upward: floor {from} may not know {file} on floor {to}"))
    } else if to.number == from.number && from.is_apart && from_path != to_path {
        Some(format!("{what} imports from beside: {from_path} may not know {to_path} on the same floor"))
    } else {
        None
    }
}

/// A folder of a crate, by its parts.
type Folder = Vec<String>;

/// Which child of a folder imports from which other, and where.
type Edges<'i> = BTreeMap<(&'i str, &'i str), Vec<&'i Import>>;

/// Files and folders that stand beside each other and import one another, directly or in a longer circle.
struct Circle {
    /// The folder in which they stand.
    place: String,
    names: String,
    /// How many of them are folders.
    folders: usize,
    complaint: String,
}

/// The circles among files alone, or with one folder: they are allowed. A line for each.
pub(crate) fn allowed_circles(modules: &Modules) -> Vec<String> {
    let imports = modules.imports();
    let circles = circles(&imports.iter().collect::<Vec<_>>());
    let allowed = circles.into_iter().filter(|circle| circle.folders < 2);
    allowed.map(|circle| format!("{}: {}", circle.place, circle.names)).collect()
}

fn circles(imports: &[&Import]) -> Vec<Circle> {
    // By the path of a crate's root, and the folder.
    let mut by_folder: BTreeMap<(&Path, Folder), Edges<'_>> = BTreeMap::new();
    for import in imports {
        let Some((from, to)) = &import.within else { continue };
        let common = from.iter().zip(to).take_while(|(from, to)| from == to).count();
        // Where one path has ended, one file is the other's parent.
        let (Some(from_child), Some(to_child)) = (from.get(common), to.get(common)) else { continue };
        let folder = (root_of(&import.from), from[..common].to_vec());
        by_folder.entry(folder).or_default().entry((from_child, to_child)).or_default().push(import);
    }
    let mut circles = Vec::new();
    for ((root, folder), edges) in by_folder {
        let mut graph: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (from, to) in edges.keys() {
            graph.entry(from).or_default().insert(to);
        }
        for circle in cycles(&graph) {
            let folders = circle.iter().filter(|child| is_folder(imports, root, &folder, child)).count();
            let names = circle.iter().copied().collect::<Vec<_>>().join(", ");
            let place = [&[root.display().to_string()], folder.as_slice()].concat().join("/");
            let mut complaint = format!("{place}: {names} import one another in a circle:");
            for ((from, to), imports) in &edges {
                if circle.contains(from) && circle.contains(to) {
                    complaint += &format!("\n    {from} -> {to}");
                    for import in imports.iter().take(SHOWN) {
                        complaint += &format!("\n        {}", written(import));
                    }
                    if imports.len() > SHOWN {
                        complaint += &format!("\n        and {} more", imports.len() - SHOWN);
                    }
                }
            }
            circles.push(Circle { place, names, folders, complaint });
        }
    }
    circles
}

/// Whether some file lies below a module, so that it is more than a file.
fn is_folder(imports: &[&Import], root: &Path, folder: &[String], child: &str) -> bool {
    imports.iter().any(|import| {
        let Some((from, to)) = &import.within else { return false };
        root_of(&import.from) == root
            && [from, to].into_iter().any(|path| {
                path.len() > folder.len() + 1 && path.starts_with(folder) && path[folder.len()] == child
            })
    })
}

/// The `src` folder of a file.
fn root_of(file: &Path) -> &Path {
    file.ancestors().find(|folder| folder.ends_with("src")).unwrap_or(file)
}

fn written(import: &Import) -> String {
    format!("{}:{}: `{}`", import.from.display(), import.line, import.what)
}

/// The floor of a file, and the path by which it stands there.
fn floor_of<'f>(file: &Path, floors: &'f [Floor]) -> Option<(&'f Floor, &'f str)> {
    let paths = floors.iter().flat_map(|floor| floor.paths.iter().map(move |path| (floor, *path)));
    // A module is a folder or a file.
    let stands = |path: &str| file.starts_with(path) || file.with_extension("") == Path::new(path);
    paths.filter(|(_, path)| stands(path)).max_by_key(|(_, path)| path.len())
}

/// The complaints about dependencies of a package, as `cargo tree --prefix none` lists them.
pub(crate) fn forbidden(package: &str, forbidden: &[&str], tree: &str) -> Vec<String> {
    let names: BTreeSet<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    let found = forbidden.iter().filter(|name| names.contains(**name));
    found
        .map(|name| format!("{package} depends on {name}: see `cargo tree -p {package} -i {name}`"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::{Sources, Target};

    /// Small crates from files: each `x/src/lib.rs` is a library `x`.
    fn modules(files: &[(&str, &str)]) -> Modules {
        let mut sources = Sources::default();
        for (path, text) in files {
            if let Some(name) = path.strip_suffix("/src/lib.rs") {
                sources.targets.push(Target { name: name.to_owned(), root: path.into() });
            }
            sources.files.insert(path.into(), (*text).to_owned());
        }
        Modules::parse(&sources).unwrap()
    }

    const FLOORS: &[Floor] = &[
        Floor { number: 1, paths: &["base/src/low"], is_apart: false },
        Floor { number: 2, paths: &["base/src"], is_apart: false },
        Floor { number: 3, paths: &["top/src"], is_apart: false },
    ];

    fn problems(files: &[(&str, &str)]) -> Vec<String> {
        check(&modules(files), &Rules { floors: FLOORS, ..Rules::default() }).problems
    }

    /// The problems of `low.rs` below a `high.rs` that has `High` and is re-exported at the root.
    fn of_low(text: &str) -> Vec<String> {
        problems(&[
            ("base/src/lib.rs", "mod low;\nmod high;\npub use high::High;\npub use low::*;"),
            ("base/src/low.rs", text),
            (
                "base/src/high.rs",
                "use crate::low::Low;\npub struct High(Low);\npub mod deep { pub fn run() {} }",
            ),
        ])
    }

    #[test]
    fn an_import_from_a_floor_above_is_told_with_file_and_line() {
        for (text, line, what) in [
            ("use crate::high::High;", 1, "crate::high::High"),
            ("use crate::High;", 1, "crate::High"),
            ("use super::High as Other;", 1, "super::High"),
            ("use crate::{\n    low,\n    high::{self, High},\n};", 3, "crate::high"),
            ("use crate::high::*;", 1, "crate::high"),
            ("fn f() {\n    crate::high::deep::run()\n}", 2, "crate::high::deep::run"),
            ("fn f() {\n    use crate::high;\n}", 2, "crate::high"),
            ("struct Low(super::High);", 1, "super::High"),
            ("impl From<Low> for crate::High {}", 1, "crate::High"),
            ("fn f() {\n    println!(\"{}\", crate::high::deep::run());\n}", 2, "crate::high::deep::run"),
            ("macro_rules! m {\n    () => { $crate::High };\n}", 2, "crate::High"),
            ("mod inner {\n    use super::super::High;\n}", 2, "super::super::High"),
            ("#[cfg(not(test))]\nuse crate::High;", 2, "crate::High"),
        ] {
            let found = of_low(text);
            let expected = format!(
                "base/src/low.rs:{line}: `{what}` imports upward: floor 1 may not know base/src/high.rs on floor 2"
            );
            assert!(found.contains(&expected), "{text}: {found:?}");
        }
    }

    #[test]
    fn tests_and_documentation_and_visibility_are_no_imports() {
        for text in [
            "/// See [`crate::High`].\npub struct Low;",
            "#[cfg(test)]\nuse crate::High;",
            "#[cfg(test)]\nmod tests { use crate::High; }",
            "struct Low;\nimpl Low {\n    #[cfg(test)]\n    fn f(_: crate::High) {}\n}",
            "pub(in crate::low) struct Low;",
            "use std::fmt;\nuse ::core::mem;\nfn f() { let x = \"crate::High\"; }",
        ] {
            assert_eq!(of_low(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_crate_below_may_not_know_one_above() {
        let upward = problems(&[
            ("base/src/lib.rs", "pub mod low;"),
            ("base/src/low.rs", "use top::face::Face;"),
            ("top/src/lib.rs", "pub use base as other;\nmod face;\npub use face::Face;"),
            ("top/src/face.rs", "pub struct Face(crate::other::low::Low);"),
        ]);
        let expected = "base/src/low.rs:1: `top::face::Face` imports upward: floor 1 may not know top/src/face.rs on floor 3";
        assert_eq!(upward, [expected]);
    }

    #[test]
    fn what_stands_apart_on_a_floor_imports_nothing_from_beside() {
        let modules = modules(&[
            ("base/src/lib.rs", "mod a; mod b;"),
            ("base/src/a.rs", "use crate::b::B;"),
            ("base/src/b.rs", "pub struct B;"),
        ]);
        let of = |is_apart| {
            let beside = Floor { number: 1, paths: &["base/src/a", "base/src/b"], is_apart };
            let floors = [beside, Floor { number: 2, paths: &["base/src"], is_apart: false }];
            check(&modules, &Rules { floors: &floors, ..Rules::default() }).problems
        };
        assert_eq!(of(false), [""; 0]);
        let expected = "base/src/a.rs:1: `crate::b::B` imports from beside: base/src/a may not know base/src/b on the same floor";
        assert_eq!(of(true), [expected]);
    }

    #[test]
    fn a_file_stands_on_some_floor() {
        let found = problems(&[("new/src/lib.rs", "")]);
        assert_eq!(found, ["new/src/lib.rs:1: stands on no floor: name its folder in floors.rs"]);
    }

    /// The lines of problems about circles among `a/`, `b/` and `c.rs` of one crate.
    fn circle_of(a: &str, b: &str, c: &str) -> Vec<String> {
        let found = problems(&[
            ("base/src/lib.rs", "mod a; mod b; mod c;\npub use a::one::A;"),
            ("base/src/a/mod.rs", "pub mod one; pub mod two;"),
            ("base/src/a/one.rs", a),
            ("base/src/a/two.rs", "use super::one::A;\npub struct Two;"),
            ("base/src/b/mod.rs", "pub mod deep;"),
            ("base/src/b/deep.rs", b),
            ("base/src/c.rs", c),
        ]);
        found.iter().flat_map(|problem| problem.lines().map(|line| line.trim().to_owned())).collect()
    }

    #[test]
    fn folders_beside_each_other_do_not_import_one_another() {
        let found = circle_of("use crate::b::deep::B;\npub struct A;", "\npub struct B(crate::A);", "");
        assert_eq!(
            found,
            [
                "base/src: a, b import one another in a circle:",
                "a -> b",
                "base/src/a/one.rs:1: `crate::b::deep::B`",
                "b -> a",
                "base/src/b/deep.rs:2: `crate::A`",
            ]
        );
    }

    #[test]
    fn a_longer_circle_is_one_too() {
        let found =
            circle_of("use crate::b::deep::B;", "use crate::c::C;", "use crate::a::two::Two;\npub struct C;");
        assert_eq!(found[0], "base/src: a, b, c import one another in a circle:");
    }

    #[test]
    fn circles_among_files_are_listed() {
        let modules = modules(&[
            ("base/src/lib.rs", "mod a; mod b; mod c;"),
            ("base/src/a.rs", "use crate::b::B;"),
            ("base/src/b.rs", "use crate::a::A;\nuse crate::c::C;"),
            ("base/src/c.rs", ""),
        ]);
        assert_eq!(allowed_circles(&modules), ["base/src: a, b"]);
    }

    #[test]
    fn files_of_a_folder_and_a_folder_with_its_own_may_know_each_other() {
        assert_eq!(circle_of("use super::two::Two;\npub struct A;", "use crate::a::two::Two;", ""), [""; 0]);
        assert_eq!(circle_of("use crate::c::C;\npub struct A;", "", "pub struct C(crate::A);"), [""; 0]);
    }

    #[test]
    fn an_exception_holds_for_its_files_and_is_told_when_it_is_needed_no_more() {
        let files = [
            ("base/src/lib.rs", "mod low; mod high;"),
            ("base/src/low.rs", "use crate::high::High;"),
            ("base/src/high.rs", "pub struct High;"),
        ];
        let exceptions = [("base/src/low.rs", "base/src/high.rs"), ("base/src/high.rs", "base/src/low.rs")];
        let rules = Rules { floors: FLOORS, exceptions: &exceptions, knots: &["base/src"] };
        assert_eq!(
            check(&modules(&files), &rules).problems,
            [
                "base/src/high.rs:1: imports from base/src/low.rs no more: remove the exception in floors.rs",
                "base/src:1: has no circle any more: remove it from the knots in floors.rs",
            ]
        );
    }

    #[test]
    fn a_dependency_that_is_forbidden_is_found_however_deep() {
        let tree = "threadwire-core v0.1.0 (/crates/core)\nurl v2.5.8\ntokio-util v0.7.0\nmio v1.2.0 (*)";
        assert_eq!(
            forbidden("threadwire-core", &["mio", "tokio"], tree),
            ["threadwire-core depends on mio: see `cargo tree -p threadwire-core -i mio`"]
        );
    }
}
