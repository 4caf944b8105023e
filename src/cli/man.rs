//! `meridian man`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

use clap::{Args, Command};
use clap_mangen::Man as Page;

/// Write the man pages into a folder: meridian.1, and one for each command.
///
/// Exit 1: they cannot be written there.
#[derive(Debug, Args)]
#[command(after_help = "Example: meridian man /usr/share/man/man1")]
pub(super) struct Man {
    /// The folder; it is made if it is not there.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl Man {
    pub(super) fn run(&self) -> ExitCode {
        match write_pages(&self.folder) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{}: {error}", self.folder.display());
                ExitCode::from(1)
            }
        }
    }
}

fn write_pages(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut root = super::shown().disable_help_subcommand(true);
    root.build();
    write_page(&root, folder)?;
    root.get_subcommands().try_for_each(|command| write_page(command, folder))
}

fn write_page(command: &Command, folder: &Path) -> io::Result<()> {
    let page = Page::new(command.clone());
    let mut text = Vec::new();
    page.render(&mut text)?;
    // What stands behind the options in --help is examples.
    let text = String::from_utf8_lossy(&text).replace(".SH EXTRA", ".SH EXAMPLES");
    fs::write(folder.join(page.get_filename()), text)
}
