//! The table, and the same as JSON.

use std::fmt;

use serde_json::{Value, json};

use crate::row::{Against, Better, Row};

/// All that was measured.
#[derive(Default)]
pub(super) struct Report {
    rows: Vec<(&'static str, Row)>,
    missed: Vec<(&'static str, &'static str)>,
}

impl Report {
    /// Takes in what a measure gave.
    pub(super) fn add(&mut self, id: &'static str, rows: Vec<Row>) {
        self.rows.extend(rows.into_iter().map(|row| (id, row)));
    }

    /// Notes a measure that could not be taken. Why was said on standard error.
    pub(super) fn miss(&mut self, id: &'static str, title: &'static str) {
        self.missed.push((id, title));
    }

    /// Whether every measure was taken.
    pub(super) fn is_complete(&self) -> bool {
        self.missed.is_empty()
    }

    /// An object with the `rows` of the table and the `missed` measures.
    pub(super) fn to_json(&self) -> String {
        let rows: Vec<Value> = self.rows.iter().map(|(id, row)| to_json(id, row)).collect();
        let missed: Vec<&str> = self.missed.iter().map(|(id, _)| *id).collect();
        format!("{:#}\n", json!({ "rows": rows, "missed": missed }))
    }
}

fn to_json(id: &str, row: &Row) -> Value {
    json!({
        "id": id,
        "measure": row.what,
        "unit": row.unit,
        "ours": row.ours,
        "before": row.before,
        "ratio_to_before": row.ratio_to_before(),
        "control_master": row.control_master,
        "ssh": row.ssh,
        "better": if row.better == Better::Lower { "lower" } else { "higher" },
        "against": match row.against {
            Against::ControlMaster => Some("control_master"),
            Against::Ssh => Some("ssh"),
            Against::Either => Some("either"),
            Against::Nothing => None,
        },
        "ratio": row.ratio(),
        "target": row.target,
        "met": row.met(row.target),
        "first_target": row.first_target,
        "first_met": row.met(row.first_target),
        "note": row.note,
    })
}

/// Column heads. `first` is what the first release is held to, `target` what it is built for.
/// `before` is an older build, and `x` our figure over its.
const HEADS: [&str; 12] = [
    "",
    "measure",
    "ours",
    "before",
    "x",
    "ControlMaster",
    "ssh",
    "ratio",
    "first",
    "met",
    "target",
    "met",
];

/// The columns of the older build, which a table without one does not have.
const BEFORE: std::ops::RangeInclusive<usize> = 3..=4;

fn cells(id: &str, row: &Row) -> [String; HEADS.len()] {
    let figure = |value: Option<f64>| value.map_or_else(|| "-".into(), figure);
    let sign = if row.better == Better::Lower { "<=" } else { ">=" };
    let limit =
        |limit: Option<f64>| limit.map_or_else(String::new, |it| format!("{sign} {}", short(it)));
    let met = |limit| match row.met(limit) {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "",
    };
    let ratio = row.ratio().map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}"));
    let against = match row.against {
        Against::Ssh => " of ssh",
        Against::Either => " of best",
        Against::ControlMaster | Against::Nothing => "",
    };
    let unit = if row.unit.is_empty() { String::new() } else { format!(", {}", row.unit) };
    [
        id.to_owned(),
        format!("{}{unit}", row.what),
        figure(Some(row.ours)),
        figure(row.before),
        row.ratio_to_before().map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}")),
        figure(row.control_master),
        figure(row.ssh),
        ratio + if row.ratio().is_some() { against } else { "" },
        limit(row.first_target),
        met(row.first_target).into(),
        limit(row.target),
        met(row.target).into(),
    ]
}

/// A limit as it was given, without digits that say nothing.
fn short(limit: f64) -> String {
    if limit > 100.0 { format!("{limit:.0}") } else { limit.to_string() }
}

/// Three digits that count.
fn figure(value: f64) -> String {
    let decimals = match value.abs() {
        0.0..10.0 if value.fract() != 0.0 => 2,
        10.0..100.0 if value.fract() != 0.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = vec![HEADS.map(str::to_owned)];
        lines.extend(self.rows.iter().map(|(id, row)| cells(id, row)));
        let width = |column: usize| {
            lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..HEADS.len()).map(width).collect();
        let has_before = self.rows.iter().any(|(_, row)| row.before.is_some());
        for cells in &lines {
            let mut line = String::new();
            for (column, (cell, &width)) in cells.iter().zip(&widths).enumerate() {
                if BEFORE.contains(&column) && !has_before {
                    continue;
                }
                // Figures to the right, words to the left.
                line += &match column {
                    2..=6 => format!("{cell:>width$}  "),
                    _ => format!("{cell:width$}  "),
                };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        for (id, row) in &self.rows {
            if let Some(note) = &row.note {
                writeln!(f, "{id}: {}: {note}", row.what)?;
            }
        }
        for (id, title) in &self.missed {
            writeln!(f, "{id}: {title}: COULD NOT BE TAKEN")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_what_was_met_and_what_could_not_be_taken() {
        let mut report = Report::default();
        let row = Row::new("ssh h true", "ms", 3.456).rivals(Some(10.0), Some(269.4));
        report.add("L1", vec![row.target(Against::ControlMaster, 0.3, 0.5).note("a word")]);
        assert!(report.is_complete());
        report.miss("T1", "bulk up");
        assert!(!report.is_complete());
        let table = report.to_string();
        let fields: Vec<&str> = table.lines().nth(1).unwrap().split("  ").collect();
        let fields: Vec<&str> =
            fields.iter().map(|field| field.trim()).filter(|field| !field.is_empty()).collect();
        let expected =
            ["L1", "ssh h true, ms", "3.46", "10", "269", "0.35", "<= 0.5", "yes", "<= 0.3", "NO"];
        assert_eq!(fields, expected);
        assert!(!table.contains("before"));
        assert!(table.contains("L1: ssh h true: a word\n"));
        assert!(table.contains("T1: bulk up: COULD NOT BE TAKEN\n"));
        let json: Value = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(json["rows"][0]["first_met"], true);
        assert_eq!(json["missed"][0], "T1");
        report.add("L1", vec![Row::new("y", "ms", 3.0).before(Some(4.0))]);
        let table = report.to_string();
        let heads: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(heads[..4], ["measure", "ours", "before", "x"]);
        let cells: Vec<&str> = table.lines().nth(2).unwrap().split_whitespace().collect();
        assert_eq!(cells[..6], ["L1", "y,", "ms", "3", "4", "0.75"]);
    }
}
