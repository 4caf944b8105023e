//! `meridian completions`.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

/// Print what a shell needs to complete meridian's commands and options.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: meridian completions bash > /usr/share/bash-completion/completions/meridian"
)]
pub(super) struct Completions {
    /// The shell.
    shell: Shell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Completions {
    pub(super) fn run(&self) -> ExitCode {
        let shell = match self.shell {
            Shell::Bash => clap_complete::Shell::Bash,
            Shell::Zsh => clap_complete::Shell::Zsh,
            Shell::Fish => clap_complete::Shell::Fish,
        };
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut super::shown(), "meridian", &mut script);
        super::print(&String::from_utf8_lossy(&script));
        ExitCode::SUCCESS
    }
}
