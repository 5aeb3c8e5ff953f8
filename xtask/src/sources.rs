//! Rust files of the workspace, by crate.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A library or a program of the workspace.
pub(crate) struct Target {
    /// How other crates name it in a path, such as `threadwire_core`. Empty for a program.
    pub(crate) name: String,
    /// `src/lib.rs` or `src/main.rs`, relative to the workspace.
    pub(crate) root: PathBuf,
}

/// All targets, and the text of each file, with paths relative to the workspace.
#[derive(Default)]
pub(crate) struct Sources {
    pub(crate) targets: Vec<Target>,
    pub(crate) files: BTreeMap<PathBuf, String>,
}

impl Sources {
    /// Those of the workspace around `root`.
    pub(crate) fn read(root: &Path) -> Result<Self, String> {
        let metadata =
            cargo(root, &["metadata", "--no-deps", "--locked", "--offline", "--format-version", "1"])?;
        let metadata: Value = serde_json::from_str(&metadata).map_err(|error| error.to_string())?;
        let mut sources = Self::default();
        for package in array(&metadata["packages"]) {
            for target in array(&package["targets"]) {
                let is = |kind: &str| array(&target["kind"]).any(|k| k == kind);
                if !is("lib") && !is("bin") {
                    continue;
                }
                let path = PathBuf::from(target["src_path"].as_str().unwrap_or_default());
                let path = path.strip_prefix(root).map_err(|error| error.to_string())?.to_owned();
                let name = if is("lib") { target["name"].as_str().unwrap_or_default() } else { "" };
                if let Some(folder) = path.parent() {
                    read_folder(root, folder, &mut sources.files).map_err(|error| error.to_string())?;
                }
                sources.targets.push(Target { name: name.replace('-', "_"), root: path });
            }
        }
        Ok(sources)
    }
}

/// What `cargo` prints for these arguments.
pub(crate) fn cargo(root: &Path, arguments: &[&str]) -> Result<String, String> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program).args(arguments).current_dir(root).output();
    let output = output.map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr)));
    }
    String::from_utf8(output.stdout).map_err(|error| error.to_string())
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn read_folder(root: &Path, folder: &Path, files: &mut BTreeMap<PathBuf, String>) -> std::io::Result<()> {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            read_folder(root, &path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.insert(path, fs::read_to_string(entry.path())?);
        }
    }
    Ok(())
}
