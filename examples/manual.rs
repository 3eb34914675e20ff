//! Writes what `scripts/build-deb` installs beside the programs: the man pages, made from the
//! command line and from `etc/zonkeymwi.conf`, and the completions of three shells.
//!
//! ```sh
//! cargo run --example manual -- FOLDER
//! ```

use std::fs;
use std::io;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use mwid::cli::Cli;

/// What is written about the keys: each has a line, and an explanation above it.
const SAMPLE: &str = include_str!("../etc/zonkeymwi.conf");

const SOURCE: &str = concat!("mwid ", env!("CARGO_PKG_VERSION"));

/// When what the pages say changed last.
const DATE: &str = "2026-11-21";

/// Daemons and the commands of those who run them.
const COMMANDS: &str = "8";

/// What stands at the end of each page.
const SEE_ALSO: &[&str] = &["mwid(8)", "mwid-externnotify(8)", "zonkeymwi.conf(5)"];

fn main() -> io::Result<()> {
    let folder = std::env::args_os().nth(1);
    let folder = folder.ok_or_else(|| io::Error::other("usage: manual FOLDER"))?;
    write_all(Path::new(&folder))
}

/// Makes `man/` and `completions/` in this folder.
pub(crate) fn write_all(folder: &Path) -> io::Result<()> {
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    for folder in [&man, &completions] {
        fs::create_dir_all(folder)?;
    }
    let mut cli = Cli::command().disable_help_subcommand(true);
    for (shell, name) in [(Shell::Bash, "mwid"), (Shell::Zsh, "_mwid"), (Shell::Fish, "mwid.fish")]
    {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut cli, "mwid", &mut script);
        fs::write(completions.join(name), script)?;
    }
    cli.build();
    pages_of(&cli, &man)?;
    fs::write(man.join("zonkeymwi.conf.5"), configuration().to_roff())
}

/// The page of a command, and those of the commands below it.
fn pages_of(command: &Command, man: &Path) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let page = Man::new(command.clone()).section(COMMANDS).source(SOURCE).manual("mwid").date(DATE);
    let mut text = Vec::new();
    page.render(&mut text)?;
    let mut end = Roff::new();
    see_also(&mut end, &format!("{name}({COMMANDS})"));
    end.to_writer(&mut text)?;
    fs::write(man.join(format!("{name}.{COMMANDS}")), text)?;
    // What Asterisk runs has a page of its own, etc/man/mwid-externnotify.8.
    let is_here = |it: &&Command| !it.is_hide_set() && it.get_name() != "externnotify";
    let mut below = command.get_subcommands().filter(is_here);
    below.try_for_each(|command| pages_of(command, man))
}

fn see_also(page: &mut Roff, own: &str) {
    let others: Vec<&str> = SEE_ALSO.iter().copied().filter(|it| *it != own).collect();
    page.control("SH", ["SEE ALSO"]).text([roman(others.join(", "))]);
}

/// zonkeymwi.conf(5), from the sample.
fn configuration() -> Roff {
    let mut page = Roff::new();
    page.control("TH", ["zonkeymwi.conf", "5", DATE, SOURCE, "mwid"]);
    page.control("SH", ["NAME"]).text([roman("zonkeymwi.conf - the configuration of mwid")]);
    let (head, sections) = SAMPLE.split_once("\n\n").unwrap_or(("", SAMPLE));
    page.control("SH", ["DESCRIPTION"]);
    for paragraph in head.split("\n;\n") {
        page.control("PP", []).text([roman(explained(paragraph.lines()))]);
    }
    let mut comment: Vec<&str> = Vec::new();
    for line in sections.lines() {
        if line.starts_with("; ") {
            comment.push(line);
        } else if line.starts_with('[') {
            let about = explained(comment.drain(..));
            page.control("SH", [line]).text([roman(about)]);
        } else if let Some((key, value)) =
            line.strip_prefix(';').and_then(|it| it.split_once(" = "))
        {
            let about = explained(comment.drain(..));
            page.control("TP", []).text([bold(key), roman(" = "), roman(value)]);
            page.text([roman(about)]);
        }
    }
    page.control("SH", ["FILES"]).text([roman(mwid::cli::DEFAULT_CONFIG)]);
    see_also(&mut page, "zonkeymwi.conf(5)");
    page
}

/// The text of comment lines.
fn explained<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let lines = lines.map(|line| line.trim_start_matches(';').trim());
    lines.collect::<Vec<_>>().join(" ")
}
