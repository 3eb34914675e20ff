//! The man pages and completions that examples/manual.rs makes.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod support;

#[path = "../examples/manual.rs"]
#[allow(dead_code, reason = "its `main` is for the example")]
mod manual;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::CommandFactory;
use mwid::cli::Cli;
use support::process::program;

fn made() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    manual::write_all(folder.path()).unwrap();
    folder
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    files
}

/// What a command says, and whether it ends well.
fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

fn mandoc(arguments: &[&str], page: &Path) -> (bool, String) {
    run(Command::new(program(&["mandoc"], "mandoc")).args(arguments).arg(page))
}

/// A page as a reader sees it.
fn read(page: &Path) -> String {
    let (is_well, text) = mandoc(&["-T", "ascii", "-O", "width=500"], page);
    assert!(is_well, "{text}");
    // Bold is a letter over itself.
    let mut plain = String::new();
    for letter in text.chars() {
        if letter == '\u{8}' {
            plain.pop();
        } else {
            plain.push(letter);
        }
    }
    plain
}

#[test]
fn every_page_is_sound() {
    let made = made();
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/man");
    let pages = [files(&made.path().join("man")), files(&own)].concat();
    assert!(pages.len() > 15, "{pages:?}");
    let faults = |page: &Path| {
        let said = mandoc(&["-T", "lint", "-W", "warning"], page).1;
        let lines = said.lines().map(str::to_owned);
        // Of a list in an explanation, as clap_mangen writes it; it looks as it should.
        lines.filter(|line| !line.contains("skipping paragraph macro")).collect::<Vec<_>>()
    };
    for page in &pages {
        assert_eq!(faults(page), [""; 0]);
        // What a page refers to is a page.
        let text = fs::read_to_string(page).unwrap().replace('\\', "");
        let see_also = text.split(".SH \"SEE ALSO\"\n").nth(1);
        let see_also = see_also.or_else(|| text.split(".SH SEE ALSO\n").nth(1)).unwrap();
        for other in see_also.trim().split(", ") {
            let (name, section) = other.trim_end_matches(')').split_once('(').unwrap();
            let name = format!("{name}.{section}");
            assert!(pages.iter().any(|page| page.ends_with(&name)), "{}: {name}", page.display());
        }
    }
    let broken = made.path().join("broken.8");
    fs::write(&broken, ".TH x 8\n.NOSUCH\n.SH\n").unwrap();
    assert_ne!(faults(&broken), [""; 0], "a page that is not sound is found out");
}

#[test]
fn every_command_has_a_page_and_every_page_of_a_command_its_options() {
    let made = made();
    for command in Cli::command().get_subcommands() {
        let page = match command.get_name() {
            "externnotify" => "etc/man/mwid-externnotify.8".into(),
            name => made.path().join(format!("man/mwid-{name}.8")),
        };
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
        let text = read(&page);
        let told = command.get_arguments().filter(|option| !option.is_hide_set());
        for option in told.filter_map(clap::Arg::get_long) {
            assert!(text.contains(&format!("--{option}")), "--{option}: {text}");
        }
    }
    let below: BTreeSet<_> = files(&made.path().join("man")).into_iter().collect();
    assert!(below.contains(&made.path().join("man/mwid-show-subscription.8")), "{below:?}");
}

#[test]
fn the_helpers_page_names_its_options_and_defaults() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/man/mwid-externnotify.8");
    let text = read(&page);
    let (_, help) = run(Command::new(env!("CARGO_BIN_EXE_mwid-externnotify")).arg("--help"));
    let words = help.split_whitespace().filter(|word| word.starts_with("--"));
    let options: BTreeSet<&str> = words.collect();
    assert!(options.len() >= 3, "{help}");
    for word in options
        .into_iter()
        .chain([mwid::source::externnotify::DEFAULT_DROP, "/run/mwid/externnotify.sock"])
    {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn the_configurations_page_explains_every_key() {
    let made = made();
    let text = read(&made.path().join("man/zonkeymwi.conf.5"));
    let sample = include_str!("../etc/zonkeymwi.conf");
    let mut keys = 0;
    for line in sample.lines().filter(|line| !line.starts_with("; ")) {
        let shown = line.strip_prefix(';').unwrap_or(line);
        assert!(text.contains(shown), "{shown} is not in the page");
        keys += usize::from(line.starts_with(';') && line.len() > 1);
    }
    assert!(keys > 100, "{keys}");
    assert!(text.contains("Seconds between two full counts."));
}

#[test]
fn bash_completes_commands_and_options() {
    let made = made();
    let script = made.path().join("completions/mwid");
    let complete = |words: &str| {
        let test = format!(
            "source '{}'; COMP_WORDS=(mwid {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _mwid mwid \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"; echo \"${{COMPREPLY[@]}}\"",
            script.display()
        );
        run(Command::new("bash").args(["--norc", "-c", &test])).1.trim().to_owned()
    };
    assert_eq!(complete("sta"), "status");
    assert_eq!(complete("status --js"), "--json");
    assert!(complete("show ''").contains("subscription"));
}

#[test]
fn zsh_and_fish_read_their_completions() {
    let made = made();
    let script = |name: &str| made.path().join("completions").join(name);
    for (shell, check, name) in [("zsh", "-n", "_mwid"), ("fish", "--no-execute", "mwid.fish")] {
        let (is_well, said) =
            run(Command::new(program(&[shell], shell)).arg(check).arg(script(name)));
        assert!(is_well && said.is_empty(), "{shell}: {said}");
    }
    let test = format!("source {}; complete -C 'mwid sta'", script("mwid.fish").display());
    let (_, said) = run(Command::new("fish").args(["--no-config", "-c", &test]));
    assert!(said.starts_with("status"), "{said}");
}

/// `mwid --help` is looked at in a terminal: each command takes one line.
#[test]
fn the_list_of_commands_has_a_line_for_each() {
    let mut all = 0;
    for arguments in [&["--help"][..], &["show", "--help"]] {
        let (is_well, help) = run(Command::new(env!("CARGO_BIN_EXE_mwid")).args(arguments));
        let (_, list) = help.split_once("Commands:\n").unwrap();
        for line in list.lines().take_while(|line| !line.is_empty()) {
            assert!(is_well && line.starts_with("  ") && line.len() <= 90, "{line}");
            all += 1;
        }
    }
    assert!(all > 18, "{all} commands");
}
