//! `pointsman completions` and `pointsman man`: what the shell and `man` read, made of the very
//! declaration that reads the command line.

use super::{Exit, complain, put};
use clap::{Command, ValueEnum};
use clap_mangen::Man;
use std::io;
use std::path::{Path, PathBuf};

/// Shells that completions are made for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Shell {
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
}

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
pub(super) struct Manual {
    /// The page of a verb, such as reload or target drain; without one that of the whole.
    #[arg(value_name = "VERB")]
    verbs: Vec<String>,
    /// Write every page into this directory instead, which must be there.
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "verbs")]
    into: Option<PathBuf>,
}

pub(super) fn completions(shell: Shell, mut command: Command) -> Exit {
    use clap_complete::Shell as Known;
    let shell = match shell {
        Shell::Bash => Known::Bash,
        Shell::Elvish => Known::Elvish,
        Shell::Fish => Known::Fish,
        Shell::Powershell => Known::PowerShell,
        Shell::Zsh => Known::Zsh,
    };
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "pointsman", &mut text);
    put(&text);
    Exit::Done
}

pub(super) fn manual(manual: &Manual, mut command: Command) -> Exit {
    // Gives every verb its whole name.
    command.build();
    if let Some(folder) = &manual.into {
        return match write_all(&command, folder) {
            Ok(()) => Exit::Done,
            Err(fault) => {
                complain(&format!("{}: cannot be written into: {}", folder.display(), fault.kind()));
                Exit::of_io(&fault)
            }
        };
    }
    let mut page = &command;
    for verb in &manual.verbs {
        let Some(below) = page.find_subcommand(verb) else {
            complain(&format!("there is no verb \"{}\"; see pointsman --help", verb.escape_debug()));
            return Exit::Usage;
        };
        page = below;
    }
    let mut text = Vec::new();
    if Man::new(page.clone()).render(&mut text).is_err() {
        return Exit::System;
    }
    put(&text);
    Exit::Done
}

/// Writes the page of a command and of everything below it.
fn write_all(command: &Command, folder: &Path) -> io::Result<()> {
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        write_all(below, folder)?;
    }
    let man = Man::new(command.clone());
    let mut text = Vec::new();
    man.render(&mut text)?;
    std::fs::write(folder.join(man.get_filename()), text)
}
