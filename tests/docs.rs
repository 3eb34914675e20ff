//! The documents say what is so.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{CommandFactory, Parser};
use mwid::cli::Cli;

/// The pages that a reader gets.
const PAGES: [&str; 11] = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/architecture.md",
    "docs/choosing.md",
    "docs/compatibility.md",
    "docs/dependencies.md",
    "docs/http.md",
    "docs/metrics.md",
    "docs/performance.md",
    "docs/troubleshooting.md",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The blocks of a page that are fenced with this language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let starts = page.split(&fence).skip(1);
    starts.filter_map(|rest| rest.split_once("\n```")).map(|(block, _)| block.to_owned()).collect()
}

/// What stands between backticks, fenced blocks left out.
fn spans(page: &str) -> Vec<String> {
    let prose: String = page.split("```").step_by(2).collect();
    prose.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The names on the left of `=` in the dependency sections of a Cargo.toml.
fn direct_dependencies(manifest: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut in_section = false;
    for line in manifest.lines() {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            in_section = section.ends_with("dependencies") && !section.starts_with("workspace");
        } else if let Some((key, _)) = line.split_once('=').filter(|_| in_section) {
            // `thiserror.workspace = true` names `thiserror`.
            names.insert(key.trim().trim_end_matches(".workspace").to_owned());
        }
    }
    names
}

/// The names in the first column of the tables: "| `name` | …".
fn documented(page: &str) -> BTreeSet<String> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split_once('`')).map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn every_direct_dependency_has_its_reason() {
    let mut used = direct_dependencies(&read("Cargo.toml"));
    used.extend(direct_dependencies(&read("core/Cargo.toml")));
    used.extend(direct_dependencies(&read("fuzz/Cargo.toml")));
    assert!(used.contains("tokio") && used.contains("rsip"), "the manifests were read: {used:?}");
    let documented = documented(&read("docs/dependencies.md"));
    let missing: Vec<_> = used.difference(&documented).collect();
    assert!(missing.is_empty(), "docs/dependencies.md gives no reason for {missing:?}");
    let gone: Vec<_> = documented.difference(&used).collect();
    assert!(gone.is_empty(), "docs/dependencies.md speaks of {gone:?}, which nothing uses");
}

/// A command line of the pages, with values in place of its placeholders.
fn parsed(line: &str) -> Result<Cli, clap::Error> {
    let value = |word: &str| match word {
        "NEW" | "OLD" => "1".to_owned(),
        _ => word.to_owned(),
    };
    Cli::try_parse_from(line.split_whitespace().map(value))
}

#[test]
fn every_command_of_the_readme_is_one() {
    let page = read("README.md");
    let mut lines: Vec<String> = blocks(&page, "sh")
        .iter()
        .flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| line.starts_with("mwid "))
        .collect();
    let in_blocks = lines.len();
    lines.extend(spans(&page).into_iter().filter(|span| span.starts_with("mwid ")));
    assert!(in_blocks >= 3 && lines.len() >= 15, "they were found: {lines:#?}");
    for line in &lines {
        if let Err(error) = parsed(line) {
            panic!("`{line}` of README.md: {error}");
        }
    }
    assert!(parsed("mwid nonsense").is_err() && parsed("mwid notify 202 example.com").is_err());
    let named = |name: &str| lines.iter().any(|line| line.split(' ').nth(1) == Some(name));
    for command in Cli::command().get_subcommands() {
        assert!(named(command.get_name()), "README.md does not name `mwid {}`", command.get_name());
    }
}

#[test]
fn every_command_of_the_other_pages_is_one() {
    for path in &PAGES[1..] {
        for span in spans(&read(path)) {
            let Some(rest) = span.strip_prefix("mwid ") else { continue };
            let name = rest.split_whitespace().next().unwrap_or_default();
            let known = Cli::command().find_subcommand(name).is_some();
            assert!(known, "{path} speaks of `{span}`");
        }
    }
}

#[test]
fn every_option_of_the_readme_is_one() {
    let help = |command: &mut Command| {
        String::from_utf8(command.output().unwrap().stdout).expect("help is text")
    };
    let mwid = || Command::new(env!("CARGO_BIN_EXE_mwid"));
    let mut all = help(mwid().arg("--help"));
    all += &help(mwid().args(["status", "--help"]));
    all += &help(Command::new(env!("CARGO_BIN_EXE_mwid-externnotify")).arg("--help"));
    for span in spans(&read("README.md")) {
        let option = span.split_whitespace().next().unwrap_or_default();
        if option.starts_with("--") {
            assert!(all.contains(option), "README.md speaks of `{span}`");
        }
    }
}

#[test]
fn every_path_in_the_pages_is_there() {
    let folders = [
        "src/",
        "core/",
        "etc/",
        "sql/",
        "docs/",
        "tests/",
        "scripts/",
        "benches/",
        "examples/",
        ".ci/",
    ];
    let mut seen = 0;
    for page in PAGES {
        let text = read(page);
        let words = text.split(|c: char| c.is_whitespace() || "`()[]|,;<>\"".contains(c));
        for word in words {
            let word = word.trim_end_matches(['.', ':']);
            if folders.iter().any(|folder| word.starts_with(folder)) {
                seen += 1;
                assert!(root().join(word).exists(), "{page} speaks of {word}");
            }
        }
        for (_, rest) in text.match_indices("](").map(|(at, _)| text.split_at(at + 2)) {
            let target = rest.split([')', '#']).next().unwrap_or_default();
            if !target.starts_with("http") {
                let beside = root().join(page).parent().unwrap().join(target);
                assert!(beside.exists(), "{page} links to {target}");
            }
        }
    }
    assert!(seen > 60, "they were found: {seen}");
}

/// The last cell of each row of the page's tables whose last column has this head.
fn last_cells(page: &str, head: &str) -> Vec<(String, String)> {
    let mut cells = Vec::new();
    let mut is_inside = false;
    for line in page.lines() {
        let Some(row) = line.strip_prefix('|').and_then(|row| row.trim().strip_suffix('|')) else {
            is_inside = false;
            continue;
        };
        let (rest, last) = row.rsplit_once('|').unwrap_or_default();
        if last.trim() == head {
            is_inside = true;
        } else if is_inside && !last.trim().starts_with("---") {
            cells.push((rest.trim().to_owned(), last.trim().to_owned()));
        }
    }
    cells
}

/// All Rust of this project.
fn code() -> String {
    let mut code = String::new();
    for folder in ["src", "core", "tests"] {
        collect(&root().join(folder), &mut code);
    }
    code
}

#[test]
fn every_test_that_the_pages_name_is_there() {
    let code = code();
    for (path, head, at_least) in
        [("docs/architecture.md", "tests", 12), ("docs/compatibility.md", "proved by", 60)]
    {
        let cells = last_cells(&read(path), head);
        assert!(cells.len() >= at_least, "{path}: they were found: {}", cells.len());
        for test in cells.iter().flat_map(|(_, cell)| spans(cell)) {
            assert!(code.contains(&format!("fn {test}(")), "{path} names {test}");
        }
    }
}

#[test]
fn what_no_test_proves_is_said() {
    let owned = ["no test", "not yet", "not mwid's purpose"];
    for (rest, cell) in last_cells(&read("docs/compatibility.md"), "proved by") {
        let is_said = owned.iter().any(|words| cell.contains(words));
        assert!(is_said || !spans(&cell).is_empty(), "docs/compatibility.md: {rest}");
    }
}

/// All Rust below a folder.
#[expect(clippy::unwrap_used, reason = "a test that cannot read its own folder has failed")]
fn collect(folder: &Path, code: &mut String) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, code);
        } else if path.extension().is_some_and(|it| it == "rs") {
            code.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_shipped_configuration_passes_mwid_check() {
    let sample = read("etc/zonkeymwi.conf");
    let readme = read("README.md");
    let ini = blocks(&readme, "ini");
    let whole: Vec<_> = ini.into_iter().filter(|block| block.contains("[general]")).collect();
    assert_eq!(whole.len(), 2, "the trial's and the one to install");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zonkeymwi.conf");
    for text in [sample.replacen(";proxy =", "proxy =", 1)].into_iter().chain(whole) {
        fs::write(&path, &text).unwrap();
        let mut check = Command::new(env!("CARGO_BIN_EXE_mwid"));
        let output = check.arg("--config").arg(&path).arg("check").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}\n{said}");
    }
}

#[test]
fn asterisk_runs_the_helper_from_where_it_is_installed() {
    let line = "\nexternnotify = /usr/bin/mwid-externnotify\n";
    assert!(read("etc/asterisk/voicemail.conf").contains(line));
    let readme = read("README.md");
    assert!(readme.contains(line) && readme.contains("mwid-externnotify /usr/bin/\n"));
}

#[test]
fn the_drop_folder_is_made_where_the_helper_leaves_calls_for_the_users_of_the_unit() {
    let tmpfiles = read("etc/mwid.tmpfiles");
    let lines = tmpfiles.lines().filter(|line| !line.starts_with('#'));
    let lines: Vec<Vec<&str>> = lines.map(|line| line.split_whitespace().collect()).collect();
    let drop = mwid::source::externnotify::DEFAULT_DROP;
    assert_eq!(
        lines,
        [
            ["d", "/var/lib/mwid", "0750", "mwid", "asterisk", "-"],
            ["d", drop, "2770", "mwid", "asterisk", "-"]
        ]
    );
    let unit = read("etc/mwid.service");
    for line in ["User=mwid", "Group=asterisk", "StateDirectory=mwid", "StateDirectoryMode=0750"] {
        assert!(unit.lines().any(|it| it == line), "{line}");
    }
}
