//! The table of what each face can (`docs/faces.md` of the crate), walked cell by cell: what it names is used, and has its effect.

mod arguments;
mod clients;
mod connections;
mod drive;
mod servers;
mod settings;
mod table;

use std::panic::catch_unwind;

use crate::common::bounded;
use table::{Content, Table, words};

/// What a cell of the table promises, shown.
pub(crate) struct Scenario {
    /// The row of the cell.
    pub row: &'static str,
    /// Its column.
    pub face: &'static str,
    /// The scenario as it is written: the names of the cell are in it.
    pub code: &'static str,
    /// Fails if the promise is not kept.
    pub run: fn(),
}

/// Scenarios by row: the faces, how it is run (a function of [`drive`]), and what is done.
macro_rules! scenarios {
    ($($row:literal { $($($face:ident)+: $how:ident $code:expr;)+ })+) => {
        pub(crate) const SCENARIOS: &[$crate::faces::Scenario] = &[$($($($crate::faces::Scenario {
            row: $row,
            face: stringify!($face),
            code: stringify!($code),
            run: || $crate::faces::drive::$face::$how($code),
        }),+),+),+];
    };
}
use scenarios;

/// Compares a table with its scenarios, and runs those.
fn walk(heading: &str, scenarios: &[Scenario]) {
    let table = Table::under(heading);
    let mut wrong = table.check_reasons();
    for scenario in scenarios {
        if !matches!(table.cell(scenario.row, scenario.face), Some(Content::Names(_))) {
            wrong.push(format!("{} / {}: a scenario without a cell", scenario.row, scenario.face));
        }
    }
    for (row, face, names) in table.filled() {
        let mut of_cell = scenarios.iter().filter(|it| it.row == row && it.face == face);
        let Some(scenario) = of_cell.next() else {
            wrong.push(format!("{row} / {face}: a cell without a scenario"));
            continue;
        };
        if of_cell.next().is_some() {
            wrong.push(format!("{row} / {face}: two scenarios"));
        }
        for name in names {
            if !words(scenario.code).any(|word| word == *name) {
                wrong.push(format!("{row} / {face}: `{name}` is not in the scenario"));
            }
        }
        let run = scenario.run;
        if catch_unwind(|| bounded(run)).is_err() {
            wrong.push(format!("{row} / {face}: the scenario fails"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn connections_can_what_the_table_says() {
    walk("## Connections", connections::SCENARIOS);
}

#[test]
fn clients_can_what_the_table_says() {
    walk("## Clients", clients::SCENARIOS);
}

#[test]
fn servers_can_what_the_table_says() {
    walk("## Servers", servers::SCENARIOS);
}
