//! Tables in Markdown: rows by what can be done, columns by face, and footnotes for what is empty.

const DOCUMENT: &str = include_str!("../../../docs/faces.md");

/// What a cell says.
pub(crate) enum Content {
    /// What is used there: identifiers of the library.
    Names(Vec<&'static str>),
    /// The footnote that says why there is nothing.
    Nothing(&'static str),
}

/// One of the tables of the document.
pub(crate) struct Table {
    faces: Vec<String>,
    rows: Vec<(&'static str, Vec<Content>)>,
}

impl Table {
    /// The one under this heading.
    pub(crate) fn under(heading: &str) -> Table {
        let mut lines = DOCUMENT.lines().skip_while(|line| *line != heading);
        assert!(lines.next().is_some(), "no heading {heading}");
        let mut lines =
            lines.skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
        let head = cells(lines.next().expect("a head"));
        let faces = head[1..].iter().map(|name| face(name)).collect();
        let rows = lines.skip(1).map(|line| {
            let cells = cells(line);
            assert_eq!(cells.len(), head.len(), "cells of: {line}");
            (cells[0], cells[1..].iter().map(|cell| content(cell)).collect())
        });
        Table { faces, rows: rows.collect() }
    }

    /// A cell, if there is one.
    pub(crate) fn cell(&self, row: &str, face: &str) -> Option<&Content> {
        let (_, cells) = self.rows.iter().find(|(name, _)| *name == row)?;
        cells.get(self.faces.iter().position(|name| name == face)?)
    }

    /// The cells that name something: row, face, names.
    pub(crate) fn filled(&self) -> impl Iterator<Item = (&str, &str, &[&'static str])> {
        self.rows.iter().flat_map(|(row, cells)| {
            cells.iter().zip(&self.faces).filter_map(|(cell, face)| match cell {
                Content::Names(names) => Some((*row, face.as_str(), &names[..])),
                Content::Nothing(_) => None,
            })
        })
    }

    /// What is wrong with the reasons of empty cells.
    pub(crate) fn check_reasons(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (row, cells) in &self.rows {
            for (cell, face) in cells.iter().zip(&self.faces) {
                if let Content::Nothing(note) = cell
                    && !DOCUMENT.lines().any(|line| line.starts_with(&format!("[^{note}]: ")))
                {
                    wrong.push(format!("{row} / {face}: no reason for there being nothing"));
                }
            }
        }
        wrong
    }
}

/// The cells of a line.
fn cells(line: &'static str) -> Vec<&'static str> {
    let inner = line.trim().strip_prefix('|').and_then(|line| line.strip_suffix('|'));
    inner.unwrap_or_else(|| panic!("no row: {line}")).split('|').map(str::trim).collect()
}

/// A face by the head of its column, as scenarios name it.
fn face(head: &str) -> String {
    head.trim_matches('`').replace("::", "_").to_lowercase()
}

/// What a cell says: code is split into names of the library, of which the last of a path counts.
fn content(cell: &'static str) -> Content {
    if let Some(note) = cell.strip_prefix("-[^") {
        return Content::Nothing(note.trim_end_matches(']'));
    }
    let code = cell.split('`').skip(1).step_by(2);
    let names: Vec<_> = code.map(|code| words(code).last().expect("a name")).collect();
    assert!(!names.is_empty(), "neither a name nor a footnote: {cell}");
    Content::Names(names)
}

/// The identifiers in some code.
pub(crate) fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|letter: char| !letter.is_alphanumeric() && letter != '_').filter(|word| !word.is_empty())
}
