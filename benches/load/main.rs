//! The load bench: what does pointsman cost, next to a bare Pingora proxy, to nginx and to rivals?
//!
//! One stand-in provider, one closed-loop client and the proxies run on this machine's loopback.
//! The proxies take turns, round after round in changing order, so that a slow minute of the
//! machine hits all of them; each ratio is the median of the ratios of single rounds. Every proxy
//! has one worker thread, keeps its connections on both sides and writes its log to /dev/null.
//!
//! Measured are CPU per request and per streamed chunk (user and system time of the process, from
//! its own clock), for requests of 1 KB to 5 MB, one route and a thousand, ten open streams and ten
//! thousand; the delay that a proxy adds to an answer, to the first content of a stream and to a
//! request whose first target fails; the share of whole streams when one answer in ten is a fault; and
//! the memory at rest and of an open stream. But for that share every answer is checked; one wrong answer ends
//! the bench, for a figure of failing requests says nothing.
//!
//! ```text
//! cargo bench --bench load                    the table, in six minutes
//! cargo bench --bench load -- --rivals        with HAProxy, Envoy, Portkey and LiteLLM (`make rivals`)
//! cargo bench --bench load -- --write         the table, into docs/performance.md too
//! cargo bench --bench load -- --quick         one short round: does it work at all?
//! cargo bench --bench load -- --only cost     one part: cost, delays, faults, crowd
//! cargo bench --bench load -- --max-ratio 1.15   and fail above that ratio to bare Pingora
//! ```
//!
//! `POINTSMAN_BIN` names the binary (default: `pointsman` beside the bench in the target
//! directory); `HAPROXY_BIN`, `ENVOY_BIN`, `LITELLM_BIN` and `PORTKEY_JS` name the rivals where they are not
//! where `make rivals` puts them. A proxy that is not there is named under the table. Without `--bench` (which
//! `cargo bench` passes, and `cargo test --all-targets` does not) nothing runs.

#![allow(clippy::disallowed_methods, reason = "a bench reads the clock itself")]
#![allow(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]

mod bare;
mod client;
mod cost;
mod crowd;
mod faults;
mod gateways;
mod ours;
mod plain;
mod process;
mod provider;
mod report;
mod series;
mod subject;

use anyhow::{Context as _, bail};
use std::process::ExitCode;

/// What was asked for on the command line.
struct Wish {
    quick: bool,
    rivals: bool,
    write: bool,
    max_ratio: Option<f64>,
    only: Option<String>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match start(&words) {
        Ok(code) => code,
        Err(fault) => {
            eprintln!("load: {fault:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(words: &[String]) -> anyhow::Result<ExitCode> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["provider"] => provider::run().map(|()| ExitCode::SUCCESS),
        ["bare", address, upstream] => {
            bare::run(address, upstream.parse().context("bare: the upstream is not an address")?);
            Ok(ExitCode::SUCCESS)
        }
        options if options.contains(&"--bench") => run(&wish(options)?),
        _ => {
            println!("load: nothing to do without --bench; use `cargo bench --bench load` or `make load`");
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn wish(options: &[&str]) -> anyhow::Result<Wish> {
    let mut wish = Wish { quick: false, rivals: false, write: false, max_ratio: None, only: None };
    let mut options = options.iter();
    while let Some(option) = options.next() {
        match *option {
            "--bench" => {}
            "--quick" => wish.quick = true,
            "--rivals" => wish.rivals = true,
            "--write" => wish.write = true,
            "--max-ratio" => {
                let value = options.next().context("--max-ratio wants a number, such as 1.15")?;
                wish.max_ratio = Some(value.parse().context("--max-ratio wants a number, such as 1.15")?);
            }
            "--only" => {
                let part = options.next().filter(|part| series::PARTS.contains(part));
                let part =
                    part.with_context(|| format!("--only wants one of {}", series::PARTS.join(", ")))?;
                wish.only = Some((*part).to_owned());
            }
            other => {
                bail!(
                    "unknown option {other}; there are --quick, --rivals, --only, --write and --max-ratio N"
                )
            }
        }
    }
    if wish.write && (wish.quick || wish.only.is_some()) {
        bail!("--quick and --only measure too little to be written down; leave them out, or --write");
    }
    Ok(wish)
}

fn run(wish: &Wish) -> anyhow::Result<ExitCode> {
    process::raise_file_limit()?;
    if let Some(busy) = process::others_at_work() {
        eprintln!("load: the machine is busy (load average {busy}): CPU may pass, delays will not");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let findings = runtime.block_on(series::run_all(wish.quick, wish.rivals, wish.only.as_deref()))?;
    print!("{}", report::told(&findings));
    if wish.write {
        report::write_into("docs/performance.md", &findings)?;
        println!("written: docs/performance.md");
    }
    match (wish.max_ratio, report::cpu_ratio_to_bare(&findings)) {
        (None, _) => Ok(ExitCode::SUCCESS),
        (Some(_), None) => bail!("no ratio to compare: pointsman was not measured"),
        (Some(most), Some(ratio)) if ratio <= most => {
            println!("CPU per 1 KB request: {ratio:.2} times bare Pingora, at most {most} allowed: good");
            Ok(ExitCode::SUCCESS)
        }
        (Some(most), Some(ratio)) => {
            bail!("CPU per 1 KB request is {ratio:.2} times bare Pingora's, at most {most} allowed")
        }
    }
}
