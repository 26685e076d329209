//! How is the matrix shown, on a terminal and in `docs/clients.md`?
//!
//! The page is written by hand but for what stands between its two marks. That has the table, the
//! reasons of cells that are not good, and for each client what it asked of us by itself and which
//! hosts it looked for elsewhere, so that a new version's new habits show as a difference.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use crate::cell::{CELLS, Cell, Played, Verdict};
use crate::roster::{Client, ROSTER};
use crate::server::Server;

/// One client with all its cells.
pub struct Row {
    client: &'static Client,
    pub verdicts: Vec<Verdict>,
    asked: BTreeSet<String>,
    elsewhere: BTreeSet<String>,
}

impl Row {
    pub fn new(client: &'static Client) -> Row {
        Row { client, verdicts: Vec::new(), asked: BTreeSet::new(), elsewhere: BTreeSet::new() }
    }

    pub fn add(&mut self, played: Played) {
        // The lists are asked for by us; what a client asks for by itself shows in the others.
        if played.cell.is_some_and(|cell| cell != Cell::Lists) {
            for said in played.said {
                // One that the client did not wait for has no status.
                self.asked.extend(said.status.map(|status| format!("`{}` {status}", said.what)));
            }
            self.elsewhere.extend(played.elsewhere);
        }
        self.verdicts.push(played.verdict);
    }

    /// Returns the row as the terminal has it.
    pub fn line(&self) -> String {
        let words =
            self.verdicts.iter().zip(CELLS).map(|(verdict, cell)| padded(verdict.word(), cell.title()));
        let name = format!("{} {}", self.client.name, self.client.version());
        format!("{name:28} {}", words.collect::<Vec<_>>().join("  "))
    }

    /// Returns what is to be said beside the row.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for (verdict, cell) in self.verdicts.iter().zip(CELLS) {
            match verdict {
                Verdict::Failed(why) => notes.push(format!("{}: {why}", cell.title())),
                Verdict::Missing(why) if cell == CELLS[0] => notes.push(format!("not installable: {why}")),
                Verdict::Missing(_) | Verdict::Good | Verdict::None => {}
            }
        }
        notes
    }
}

fn padded(word: &str, title: &str) -> String {
    let width = title.chars().count();
    format!("{word:width$}")
}

/// Returns the head of the table on the terminal.
pub fn head() -> String {
    format!("{:28} {}", "", CELLS.map(Cell::title).join("  "))
}

/// Puts the matrix into `docs/clients.md`, between its two marks.
pub fn write(rows: &[Row], server: &Server, bedrock: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/clients.md");
    let page = std::fs::read_to_string(&path).expect("docs/clients.md is there");
    let (before, rest) = page.split_once(BEGIN).expect("the mark of the beginning");
    let (_, after) = rest.split_once(END).expect("the mark of the end");
    let page = format!("{before}{BEGIN}\n{}{END}{after}", matrix(rows, server, bedrock));
    std::fs::write(&path, page).expect("docs/clients.md is written");
}

const BEGIN: &str = "<!-- matrix: written by make clients -->";
const END: &str = "<!-- end of the matrix -->";

fn matrix(rows: &[Row], server: &Server, bedrock: &str) -> String {
    let today = chrono::Utc::now().format("%Y-%m-%d");
    let mut text = format!("\nRun of {today}, pointsman {}.\n\n", env!("CARGO_PKG_VERSION"));
    let _ = writeln!(text, "| client | version | {} |", CELLS.map(Cell::title).join(" | "));
    let _ = writeln!(text, "|---|---|{}", "---|".repeat(CELLS.len()));
    for row in rows {
        let words: Vec<&str> = row.verdicts.iter().map(Verdict::word).collect();
        let _ = writeln!(text, "| {} | {} | {} |", row.client.name, row.client.version(), words.join(" | "));
    }
    let notes: Vec<String> = rows
        .iter()
        .flat_map(|row| row.notes().into_iter().map(|note| format!("- {}: {note}\n", row.client.name)))
        .collect();
    if !notes.is_empty() {
        let _ = write!(text, "\n{}", notes.concat());
    }
    let _ = write!(
        text,
        "\nboto3 (`bedrock-runtime`) is not in the table: it speaks Bedrock's own dialect, which is served to no client\n\
         ({bedrock}). What is sent to Bedrock is held against it instead, in\n\
         `tests/it/aws.rs`: paths, bodies, signatures and frames.\n"
    );
    let _ = write!(
        text,
        "\n| client | pointed here by | asks for, beyond the lists | looks for elsewhere |\n|---|---|---|---|\n"
    );
    for (row, client) in rows.iter().zip(&ROSTER) {
        let listed = |set: &BTreeSet<String>| match set.len() {
            0 => "–".to_owned(),
            _ => set.iter().cloned().collect::<Vec<_>>().join("<br>"),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} |",
            client.name,
            client.pointed,
            listed(&row.asked),
            listed(&row.elsewhere)
        );
    }
    let _ = write!(text, "\n{}", server.page());
    text.push('\n');
    text
}
