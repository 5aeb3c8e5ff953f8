//! Checks of this repository: the direction of its imports, and how much code there is.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;

use imports::Rules;
use modules::Modules;
use sources::{Sources, cargo};

mod cfg;
mod floors;
mod graph;
mod imports;
mod lines;
mod modules;
mod references;
mod sources;

const USAGE: &str = "\
usage: cargo run -p xtask -- COMMAND

  imports   check that imports point downward, and that no two folders import each other
  circles   print the circles of imports that are allowed: those among the files of one folder
  lines     print how many lines of code there are, as a table";

fn main() -> ExitCode {
    // Cargo says where the crate lies when it runs it; this also judges a copy of the repository.
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let Some(root) = Path::new(&manifest).parent() else { return ExitCode::FAILURE };
    let done = match std::env::args().nth(1).as_deref() {
        Some("imports") => check_imports(root),
        Some("circles") => Sources::read(root).and_then(|sources| {
            let circles = imports::allowed_circles(&Modules::parse(&sources)?);
            println!("{}", circles.join("\n"));
            Ok(())
        }),
        Some("lines") => {
            Sources::read(root).and_then(|sources| lines::table(&sources)).map(|table| println!("{table}"))
        }
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn check_imports(root: &Path) -> Result<(), String> {
    let modules = Modules::parse(&Sources::read(root)?)?;
    let rules = Rules { floors: floors::FLOORS, exceptions: floors::EXCEPTIONS, knots: floors::KNOTS };
    let mut verdict = imports::check(&modules, &rules);
    for (package, forbidden) in floors::FORBIDDEN {
        let arguments =
            ["tree", "-p", package, "-e", "normal", "--all-features", "--locked", "--prefix", "none"];
        verdict.problems.extend(imports::forbidden(package, forbidden, &cargo(root, &arguments)?));
    }
    if verdict.problems.is_empty() {
        println!("{} imports between files keep to the floors", verdict.looked_at);
        return Ok(());
    }
    Err(format!(
        "{}\n\n{} breaches of the floors in xtask/src/floors.rs",
        verdict.problems.join("\n"),
        verdict.problems.len()
    ))
}
