//! Does `docs/configuration.md` say what the program reads?
//!
//! The tables of the page are written from the walk that reads the file, as the schema is:
//! `UPDATE_GOLDEN=1 cargo nextest run the_page_of_keys` writes them anew, between the two marks; the
//! prose around them is kept.

use pointsman::base::units::{format_duration, format_size};
use pointsman::config::{KeyDoc, Shape};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

const BEGIN: &str = "<!-- written from the program, by a test -->\n";
const END: &str = "<!-- end of what is written -->\n";

/// Says what a key takes.
fn takes(shape: &Shape) -> String {
    match shape {
        Shape::Duration(least, most) => {
            format!("duration, {} to {}", format_duration(*least), format_duration(*most))
        }
        Shape::Durations(least, most, count) => {
            format!("at most {count} durations, {} to {}", format_duration(*least), format_duration(*most))
        }
        Shape::Size(least, most) => format!("size, {} to {}", format_size(*least), format_size(*most)),
        Shape::Integer(only, most) if only == most => format!("`{only}`"),
        Shape::Integer(least, most) => format!("number, {least} to {most}"),
        Shape::Number(least, most) => format!("number, {least} to {most}, with decimals"),
        Shape::Boolean => "`true`, `false`".to_owned(),
        Shape::Choice(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Shape::Text => "text".to_owned(),
        Shape::Secret => "place of a secret".to_owned(),
        Shape::Texts => "list of texts".to_owned(),
        Shape::Integers(least, most) => format!("list of numbers, {least} to {most}"),
        Shape::TextTable => "text by name".to_owned(),
        Shape::JsonTable => "anything by name".to_owned(),
        Shape::List => "list".to_owned(),
        Shape::Table => "by name".to_owned(),
        Shape::Section => "section".to_owned(),
        Shape::Unbuilt => "not built yet".to_owned(),
    }
}

fn row(doc: &KeyDoc) -> String {
    let default = match (doc.is_required, &*doc.default) {
        (true, _) => "must be given".to_owned(),
        (false, "") => String::new(),
        (false, default) => format!("`{default}`"),
    };
    let takes = takes(&doc.shape).replace('|', "\\|");
    let null = if doc.is_nullable && doc.shape != Shape::Unbuilt { ", `null`" } else { "" };
    let help = doc.help.replace('|', "\\|").replace('<', "&lt;");
    format!("| `{}` | {takes}{null} | {} | {help} |\n", doc.path, default.replace('|', "\\|"))
}

fn tables() -> String {
    let mut page = String::new();
    let keys = pointsman::config::keys();
    let root = |doc: &KeyDoc| doc.path.split(['.', '[']).next().unwrap().to_owned();
    let is_alone = |doc: &&KeyDoc| keys.iter().filter(|other| root(other) == root(doc)).count() == 1;
    let head = |page: &mut String, name: &str| {
        // Writing to a String does not fail.
        let _ = write!(page, "\n## {name}\n\n| key | takes | default | |\n|---|---|---|---|\n");
    };
    head(&mut page, "Keys without a section");
    keys.iter().filter(is_alone).for_each(|doc| page.push_str(&row(doc)));
    let mut last = String::new();
    for doc in keys.iter().filter(|doc| !is_alone(doc)) {
        if root(doc) != last {
            last = root(doc);
            head(&mut page, &last);
        }
        page.push_str(&row(doc));
    }
    page.push('\n');
    page
}

#[test]
fn the_page_of_keys_says_what_the_program_reads() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (written, after) = rest.split_once(END).unwrap();
    let expected = tables();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(written, expected, "the page is old; UPDATE_GOLDEN=1 writes it anew");
    // The sections come in one piece each, so that a heading stands once.
    let heads: Vec<&str> = written.lines().filter(|line| line.starts_with("## ")).collect();
    assert_eq!(heads.iter().collect::<BTreeSet<_>>().len(), heads.len(), "{heads:?}");
    assert!(heads.len() > 15, "{heads:?}");
}
