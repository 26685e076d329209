//! How does an answer look on a terminal?
//!
//! Tables: one line a row, columns as wide as their widest cell, at most [`WIDTH`] columns. What does
//! not fit is cut in the one column that says why, never in a name that somebody may want to copy;
//! `--json` has it whole. Colours only on a terminal that is not a dumb one, and not where `NO_COLOR`
//! is set (no-color.org); they say nothing that the words do not.

use std::io::IsTerminal;

/// Columns of a line at most: what fits on half a wide screen, in a ticket and in a mail.
pub(super) const WIDTH: usize = 100;
/// What stands between two columns.
const GAP: &str = "  ";
/// Least width of the column that gives way.
const LEAST: usize = 12;

/// A colour with a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tint {
    Good,
    Uneasy,
    Bad,
    Heading,
}

/// Whether there are colours.
#[derive(Clone, Copy)]
pub(super) struct Paint(bool);

impl Paint {
    /// Looks at standard output.
    pub(super) fn of_stdout() -> Paint {
        Paint(is_terminal() && has_colours())
    }

    #[cfg(test)]
    pub(super) fn plain() -> Paint {
        Paint(false)
    }

    pub(super) fn tint(self, tint: Option<Tint>, text: &str) -> String {
        let code = match tint {
            Some(Tint::Good) => 32,
            Some(Tint::Uneasy) => 33,
            Some(Tint::Bad) => 31,
            Some(Tint::Heading) => 1,
            None => return text.to_owned(),
        };
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Tells whether colours are wanted: `NO_COLOR` with any text in it says no.
pub(super) fn has_colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Tells whether standard output is a terminal that understands escapes.
pub(super) fn is_terminal() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term != "dumb") && std::io::stdout().is_terminal()
}

/// Which tint the state of a target has.
pub(super) fn tint_of_state(state: &str) -> Option<Tint> {
    match state {
        "ready" | "ok" | "closed" => Some(Tint::Good),
        "open" | "auth_failed" | "quota_spent" | "failed" => Some(Tint::Bad),
        "" | "-" => None,
        _ => Some(Tint::Uneasy),
    }
}

/// A table under way.
pub(super) struct Table<'a> {
    heads: &'a [&'a str],
    /// The column that is cut where a line is too long.
    flexible: usize,
    /// The column that has the tint of a state.
    tinted: Option<usize>,
    rows: Vec<Vec<String>>,
}

impl<'a> Table<'a> {
    /// Begins one; `flexible` is the column that gives way.
    pub(super) fn new(heads: &'a [&'a str], flexible: usize) -> Table<'a> {
        Table { heads, flexible, tinted: None, rows: Vec::new() }
    }

    pub(super) fn with_state(self, column: usize) -> Table<'a> {
        Table { tinted: Some(column), ..self }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Returns the lines, the heads first; nothing where there are no rows.
    pub(super) fn lines(&self, paint: Paint) -> Vec<String> {
        if self.rows.is_empty() {
            return Vec::new();
        }
        let widths = self.widths();
        let heads: Vec<String> = self.heads.iter().map(|head| (*head).to_owned()).collect();
        let mut lines = vec![paint.tint(Some(Tint::Heading), &self.line(&heads, &widths, Paint(false)))];
        lines.extend(self.rows.iter().map(|row| self.line(row, &widths, paint)));
        lines
    }

    fn widths(&self) -> Vec<usize> {
        let count = |text: &str| text.chars().count();
        let width = |column: usize, head: &&str| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| count(cell));
            cells.max().unwrap_or(0).max(count(head))
        };
        let mut widths: Vec<usize> =
            self.heads.iter().enumerate().map(|(column, head)| width(column, head)).collect();
        let whole = widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1);
        if let Some(flexible) = widths.get_mut(self.flexible) {
            let over = whole.saturating_sub(WIDTH);
            *flexible = flexible.saturating_sub(over).max(LEAST.min(*flexible));
        }
        widths
    }

    fn line(&self, cells: &[String], widths: &[usize], paint: Paint) -> String {
        let mut line = String::new();
        for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
            if column > 0 {
                line.push_str(GAP);
            }
            let text = cut(cell, *width);
            let padding = " ".repeat(width.saturating_sub(text.chars().count()));
            let tint = (self.tinted == Some(column)).then(|| tint_of_state(&text)).flatten();
            line.push_str(&paint.tint(tint, &text));
            line.push_str(&padding);
        }
        line.trim_end().to_owned()
    }
}

/// Cuts a text to a width, and says so.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(id: &str, why: &str) -> Vec<String> {
        let mut table = Table::new(&["TARGET", "STATE", "WHY", "OK"], 2).with_state(1);
        table.row([id, "ready", why, "12"].map(str::to_owned));
        table.row(["é/b/c", "open", "", "3"].map(str::to_owned));
        table.lines(Paint(false))
    }

    #[test]
    fn columns_stand_below_each_other_and_only_the_reason_is_cut() {
        assert_eq!(
            table("a/b/c", "rests"),
            ["TARGET  STATE  WHY    OK", "a/b/c   ready  rests  12", "é/b/c   open          3"]
        );
        let id = "provider/credential/".to_owned() + &"m".repeat(40);
        for line in table(&id, &"reason ".repeat(30)) {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        assert!(table(&id, &"reason ".repeat(30))[1].contains(&id));
        assert!(table(&id, &"reason ".repeat(30))[1].contains('…'));
        assert!(table(&"m".repeat(120), "x")[1].contains(&"m".repeat(120)), "a name is cut");
    }

    #[test]
    fn colours_leave_the_columns_where_they_are() {
        let mut table = Table::new(&["STATE", "OK"], 0).with_state(0);
        table.row(["open", "1"].map(str::to_owned));
        assert_eq!(table.lines(Paint(true))[1], "\x1b[31mopen\x1b[0m   1");
        assert!(Table::new(&["A"], 0).lines(Paint(true)).is_empty());
    }
}
