//! What usage and accounts look like in a terminal.
//!
//! From the answers of `GET /v1/usage` and `GET /v1/accounts` to a table: names to the left, numbers to
//! the right, and below a line what it all comes to. A cost is said as Switch's panels do: `0`,
//! `<0.001`, else four decimals. `unknown` is one of which nothing is known, and `+` behind a sum says
//! that there were requests whose cost is not in it.

use serde_json::Value;
use std::fmt::Write as _;

/// A table that is being put together.
struct Table {
    rows: Vec<Vec<String>>,
    /// So many columns, from the left, hold words; the others numbers.
    words: usize,
}

/// Returns usage as a table, with a line for what is left out of its costs.
#[must_use]
pub fn usage_text(usage: &Value) -> String {
    let by: Vec<&str> = usage["by"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let words = by.len().max(1);
    let mut table = Table { rows: Vec::new(), words };
    let mut head: Vec<String> = by.iter().map(|name| (*name).to_owned()).collect();
    head.resize(words, String::new());
    head.extend(["requests", "failed", "input", "cached", "output", "cost USD"].map(str::to_owned));
    table.rows.push(head);
    let numbers = |row: &Value| {
        let count = |name: &str| grouped(row[name].as_u64().unwrap_or(0));
        [
            count("requests"),
            count("failed_requests"),
            count("input_tokens"),
            count("cached_tokens"),
            count("output_tokens"),
            cost(row),
        ]
    };
    for row in usage["rows"].as_array().into_iter().flatten().filter(|_| !by.is_empty()) {
        let mut cells: Vec<String> = by.iter().map(|name| word(&row[*name])).collect();
        cells.extend(numbers(row));
        table.rows.push(cells);
    }
    let mut total = vec!["total".to_owned()];
    total.resize(words, String::new());
    total.extend(numbers(&usage["total"]));
    table.rows.push(total);
    let (since, zone) = (word(&usage["since"]), word(&usage["time_zone"]));
    let mut text = format!("since {since}, days of {zone}\n") + &table.text();
    if let Some(unpriced) = usage["total"]["unpriced_requests"].as_u64().filter(|count| *count > 0) {
        // Writing to a String does not fail.
        let _ =
            writeln!(text, "the cost of {} requests is not known and not in the sums (+)", grouped(unpriced));
    }
    text
}

/// Returns accounts as a table.
#[must_use]
pub fn accounts_text(accounts: &Value) -> String {
    let head = ["account", "login", "state", "for", "usable", "requests", "tokens", "cost USD", "left"];
    let mut table = Table { rows: vec![head.map(str::to_owned).to_vec()], words: 3 };
    for account in accounts["accounts"].as_array().into_iter().flatten() {
        let today = &account["today"];
        let count = |name: &str| today[name].as_u64().unwrap_or(0);
        table.rows.push(vec![
            word(&account["id"]),
            word(&account["login"]),
            word(&account["state"]),
            account["retry_in_s"].as_f64().map_or_else(|| "-".to_owned(), |left| format!("{left:.0}s")),
            format!("{}/{}", account["usable_targets"], account["targets"]),
            grouped(count("requests")),
            grouped(count("input_tokens").saturating_add(count("output_tokens"))),
            cost(today),
            left(&account["rate_limits"]),
        ]);
    }
    table.text()
}

/// Returns what is left of the rate limits of the target with the least left.
fn left(limits: &Value) -> String {
    let least = |name: &str, unit: &str| {
        let all = limits.as_array().into_iter().flatten();
        all.filter_map(|limit| limit[name].as_u64()).min().map(|left| format!("{} {unit}", grouped(left)))
    };
    let tokens = least("tokens", "tok").or_else(|| least("input_tokens", "tok in"));
    let parts: Vec<String> = [least("requests", "req"), tokens].into_iter().flatten().collect();
    if parts.is_empty() { "-".to_owned() } else { parts.join(", ") }
}

pub(super) fn cost(row: &Value) -> String {
    let is_part = row["unpriced_requests"].as_u64().unwrap_or(0) > 0;
    let text = match row["cost_usd"].as_f64() {
        None => return "unknown".to_owned(),
        Some(usd) if usd <= 0.0 => "0".to_owned(),
        Some(usd) if usd < 0.001 => "<0.001".to_owned(),
        Some(usd) => format!("{usd:.4}"),
    };
    if is_part { text + "+" } else { text }
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

/// Writes a number with a thin mark at the thousands: `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl Table {
    fn text(&self) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let widths: Vec<usize> = (0..columns)
            .map(|at| self.rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max())
            .map(Option::unwrap_or_default)
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
                let gap = if at == 0 { "" } else { "  " };
                line.push_str(gap);
                let (before, after) = if at < self.words { ("", &*pad) } else { (&*pad, "") };
                line.push_str(before);
                line.push_str(cell);
                line.push_str(after);
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(route: &str, requests: u64, cost: Option<f64>, unpriced: u64) -> Value {
        json!({
            "route": route, "requests": requests, "failed_requests": 1, "input_tokens": 1_234_567,
            "cached_tokens": 0, "output_tokens": 89, "cost_usd": cost, "unpriced_requests": unpriced,
        })
    }

    #[test]
    fn usage_is_a_table_that_says_what_is_not_known() {
        let usage = json!({
            "by": ["route"], "time_zone": "Europe/Berlin", "since": "2026-11-20T23:00:00.000Z",
            "rows": [row("chat", 1200, Some(3.08), 0), row("local", 3, None, 3), row("lite", 1, Some(0.0002), 0)],
            "total": row("", 1204, Some(3.0802), 3),
        });
        let want = "\
since 2026-11-20T23:00:00.000Z, days of Europe/Berlin
route  requests  failed      input  cached  output  cost USD
chat      1,200       1  1,234,567       0      89    3.0800
local         3       1  1,234,567       0      89   unknown
lite          1       1  1,234,567       0      89    <0.001
total     1,204       1  1,234,567       0      89   3.0802+
the cost of 3 requests is not known and not in the sums (+)
";
        assert_eq!(usage_text(&usage), want);
    }

    #[test]
    fn without_dimensions_there_is_the_total_alone() {
        let usage = json!({ "by": [], "time_zone": "UTC", "since": "x", "rows": [row("", 2, Some(0.0), 0)], "total": row("", 2, Some(0.0), 0) });
        let text = usage_text(&usage);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.ends_with("total         2       1  1,234,567       0      89         0\n"), "{text}");
    }

    #[test]
    fn accounts_show_their_rest_and_what_is_left() {
        let accounts = json!({ "accounts": [
            {
                "id": "openai/work", "login": "key", "state": "cooling", "retry_in_s": 12.4, "targets": 3, "usable_targets": 0,
                "today": row("", 7, Some(0.5), 1),
                "rate_limits": [{ "requests": 59, "tokens": 149_984 }, { "requests": 3, "tokens": null }],
            },
            { "id": "ollama/main", "login": null, "state": "ready", "retry_in_s": null, "targets": 1, "usable_targets": 1, "today": row("", 0, Some(0.0), 0), "rate_limits": [] },
        ] });
        let want = "\
account      login  state    for  usable  requests     tokens  cost USD                left
openai/work  key    cooling  12s     0/3         7  1,234,656   0.5000+  3 req, 149,984 tok
ollama/main  -      ready      -     1/1         0  1,234,656         0                   -
";
        assert_eq!(accounts_text(&accounts), want);
    }

    #[test]
    fn anything_else_is_shown_as_nothing_and_never_a_panic() {
        for odd in
            [Value::Null, json!([]), json!({ "by": 5, "rows": {} }), json!({ "by": ["x"], "rows": [5, {}] })]
        {
            assert!(usage_text(&odd).contains("total"), "{odd}");
            assert!(accounts_text(&odd).starts_with("account"), "{odd}");
        }
    }
}
