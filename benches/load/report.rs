//! The table, for the terminal and for `docs/performance.md`.

use crate::series::{Findings, Row, median};
use crate::subject::{Kind, version};
use anyhow::Context as _;
use std::fmt::Write as _;
use std::fs;

/// What stands between these two lines of the page is ours to replace.
const BEGIN: &str = "<!-- load:begin (written by `make load LOAD_ARGS=--write`; changes here are lost) -->";
const END: &str = "<!-- load:end -->";

/// The ratio of CPU per 1 KB request to bare Pingora's, the figure that may not grow.
pub fn cpu_ratio_to_bare(findings: &Findings) -> Option<f64> {
    ratio(findings.rows.first()?, Kind::Pointsman, Kind::Bare)
}

/// The median over the rounds of one proxy's value divided by another's in the same round.
fn ratio(row: &Row, of: Kind, to: Kind) -> Option<f64> {
    let (of, to) = (row.of(of)?, row.of(to)?);
    let rounds: Vec<f64> = of.iter().zip(to).filter(|(_, to)| **to > 0.0).map(|(of, to)| of / to).collect();
    median(&rounds)
}

/// The findings as a Markdown table, medians of the rounds, and what is to be said of it.
pub fn told(findings: &Findings) -> String {
    let mut text = table(findings);
    if !findings.missing.is_empty() {
        let _ = write!(text, "\nNot measured: {}.\n", findings.missing.join("; "));
    }
    for note in &findings.notes {
        let _ = write!(text, "\n{note}\n");
    }
    text
}

fn table(findings: &Findings) -> String {
    let ratios = [Kind::Nginx, Kind::Bare];
    let mut lines = vec![vec![String::from("measured"), String::from("unit")]];
    if let Some(head) = lines.first_mut() {
        head.extend(findings.kinds.iter().map(|kind| kind.name().to_owned()));
        if findings.kinds.contains(&Kind::Pointsman) {
            head.extend(ratios.iter().map(|to| format!("pointsman / {}", to.name())));
        }
    }
    for row in &findings.rows {
        let mut line = vec![row.what.clone(), row.unit.to_owned()];
        for kind in &findings.kinds {
            line.push(
                row.of(*kind).and_then(median).map_or(String::from("–"), |value| format!("{value:.1}")),
            );
        }
        if findings.kinds.contains(&Kind::Pointsman) {
            for to in ratios {
                let value = ratio(row, Kind::Pointsman, to);
                line.push(value.map_or(String::from("–"), |value| format!("{value:.2}")));
            }
        }
        lines.push(line);
    }
    aligned(&lines)
}

fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|at| {
            lines.iter().filter_map(|line| line.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for (at, line) in lines.iter().enumerate() {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            // Words to the left, numbers to the right.
            let _ = if column < 2 {
                write!(text, "| {cell:<width$} ")
            } else {
                write!(text, "| {cell:>width$} ")
            };
        }
        text.push_str("|\n");
        if at == 0 {
            for (column, width) in widths.iter().enumerate() {
                let (dashes, end) = (width + 1, if column < 2 { "-" } else { ":" });
                let _ = write!(text, "|{}{end}", "-".repeat(dashes));
            }
            text.push_str("|\n");
        }
    }
    text
}

/// Replaces the section of the page between its two marks.
pub fn write_into(page: &str, findings: &Findings) -> anyhow::Result<()> {
    let old = fs::read_to_string(page).with_context(|| format!("cannot read {page}"))?;
    let (before, rest) = old.split_once(BEGIN).with_context(|| format!("{page} has no line {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("{page} has no line {END}"))?;
    let section = section(findings);
    fs::write(page, format!("{before}{BEGIN}\n{section}\n{END}{after}"))
        .with_context(|| format!("cannot write {page}"))
}

fn section(findings: &Findings) -> String {
    let mut versions: Vec<String> = findings.kinds.iter().filter_map(|kind| version(*kind).ok()).collect();
    versions.retain(|version| !version.is_empty());
    versions.dedup();
    let has_rivals = findings.kinds.iter().any(|kind| kind.is_rival());
    let (command, rivals) = if has_rivals {
        (
            "make load LOAD_ARGS=--rivals",
            "; the rivals of the last columns took part in two of them, the gateways with fewer requests",
        )
    } else {
        ("make load", "")
    };
    format!(
        "\nMachine: {}. Versions: {}, Pingora 0.9.1. Command: `{command}`. Medians of {} rounds in which the \
         proxies took turns{rivals}; a ratio is the median of the rounds' ratios. Open streams are measured \
         once, with a fresh process.\n\n{}",
        machine(),
        versions.join(", "),
        findings.rounds,
        told(findings)
    )
}

/// Processor, cores, memory and kernel.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let value = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_once(':'))
            .map_or(String::from("unknown"), |(_, v)| v.trim().to_owned())
    };
    let processor = value(&read("/proc/cpuinfo"), "model name");
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = value(&read("/proc/meminfo"), "MemTotal");
    let kernel = read("/proc/sys/kernel/osrelease");
    let kernel = kernel.trim().split('-').next().unwrap_or_default().to_owned();
    let gib = memory.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default();
    format!("{processor}, {cores} cores, {:.0} GiB, Linux {kernel}", gib / 1024.0 / 1024.0)
}
