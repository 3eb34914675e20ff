//! The line in voicemail.conf that makes Asterisk say what changed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::{Options, Report};
use crate::config::{Config, Control, externnotify_command};

const CHECK: &str = "externnotify";

/// Where the helper belongs.
const HELPER: &str = "/usr/bin/mwid-externnotify";

/// Files that are read at most, and bytes of each.
const MAX_FILES: usize = 32;
const MAX_LENGTH: u64 = 1 << 20;

pub(super) fn look(config: &Config, options: &Options, report: &mut Report) {
    let beside = || options.config.with_file_name("voicemail.conf");
    let path = options.voicemail.clone().unwrap_or_else(beside);
    let command = externnotify_command(&config.control);
    let command = command.replacen("mwid-externnotify", HELPER, 1);
    let line = format!("write into [general] of {}: externnotify = {command}", path.display());
    let mut reader = Reader::of(&path);
    let text = match reader.read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && options.voicemail.is_none() => {
            return without(config, &format!("there is no {}", path.display()), &line, report);
        }
        Err(error) => {
            let remedy = "let mwid's user read it, or name another with --voicemail";
            return report.warn(CHECK, format!("{}: {error}", path.display()), remedy);
        }
    };
    match externnotify(&text) {
        None => {
            let unread = match reader.unread.is_empty() {
                true => String::new(),
                false => format!(" (what it includes was not read: {})", reader.unread.join("; ")),
            };
            let what = format!("{} has no externnotify{unread}", path.display());
            without(config, &what, &line, report);
        }
        Some(found) => named(&found, &config.control, &path, &line, report),
    }
}

/// Where nobody calls: the spool and the manager tell too.
fn without(config: &Config, what: &str, line: &str, report: &mut Report) {
    let others = [
        (config.spool.enabled, "the spool is watched"),
        (config.ami.host.is_some(), "the manager tells"),
        (!config.http.listen.is_empty(), "HTTP may tell"),
    ];
    let others: Vec<&str> = others.iter().filter(|(is_so, _)| *is_so).map(|(_, it)| *it).collect();
    match others.is_empty() {
        true => report.fail(CHECK, format!("{what}, and nothing else tells of changes"), line),
        false => report.ok(CHECK, format!("{what}; {}", others.join(", "))),
    }
}

fn named(found: &str, control: &Control, path: &Path, line: &str, report: &mut Report) {
    let at = path.display();
    let mut words = found.split_whitespace();
    let program = words.next().unwrap_or_default();
    let name = Path::new(program).file_name().unwrap_or_default();
    let is_ours =
        name == "mwid-externnotify" || name == "mwid" && words.next() == Some("externnotify");
    if !is_ours {
        let text =
            format!("{at}: externnotify runs {program}, so mwid hears nothing of Asterisk's calls");
        return report.warn(
            CHECK,
            text,
            format!("{line}; a script that is needed may run it in turn"),
        );
    }
    let executable: Option<PathBuf> = if program.contains('/') {
        Some(program.into())
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).map(|folder| folder.join(program)).find(|it| it.exists())
    };
    if executable.is_none_or(|it| access(&it, AccessFlags::X_OK).is_err()) {
        return report.fail(CHECK, format!("{at}: {program} cannot be run"), helper(line));
    }
    let default = Control::default();
    let needs = [(&control.externnotify, &default.externnotify), (&control.drop, &default.drop)];
    let missing = needs
        .iter()
        .find(|(path, default)| path != default && !found.contains(&*path.to_string_lossy()));
    match missing {
        Some((wanted, _)) => report.fail(
            CHECK,
            format!("{at}: externnotify does not name {}, where mwid listens", wanted.display()),
            line,
        ),
        None => report.ok(CHECK, format!("{at}: externnotify = {found}")),
    }
}

/// Where the helper is that is to be run: where it belongs, or beside this program.
fn helper(line: &str) -> String {
    let beside = std::env::current_exe().unwrap_or_default().with_file_name("mwid-externnotify");
    if Path::new(HELPER).exists() || !beside.exists() {
        return line.to_owned();
    }
    format!("install -m 0755 {} {HELPER}", beside.display())
}

/// A file with what it includes in its place, as Asterisk reads it: names are relative to the folder
/// of the first.
struct Reader<'a> {
    folder: &'a Path,
    seen: Vec<PathBuf>,
    /// What could not be read, and why.
    unread: Vec<String>,
}

impl<'a> Reader<'a> {
    fn of(first: &'a Path) -> Self {
        let folder = first.parent().unwrap_or(Path::new(""));
        Self { folder, seen: Vec::new(), unread: Vec::new() }
    }

    fn read(&mut self, path: &Path) -> io::Result<String> {
        if self.seen.len() >= MAX_FILES || self.seen.iter().any(|seen| seen == path) {
            return Err(io::Error::other("it is included again, or too many are"));
        }
        self.seen.push(path.to_owned());
        let about = fs::metadata(path)?;
        if !about.is_file() || about.len() > MAX_LENGTH {
            return Err(io::Error::other("it is no file, or too long for a configuration"));
        }
        let text = String::from_utf8_lossy(&fs::read(path)?).into_owned();
        let mut whole = String::new();
        for line in without_comments(&text).lines() {
            let Some(name) = included(line) else {
                whole.extend([line, "\n"]);
                continue;
            };
            let file = self.folder.join(name);
            match self.read(&file) {
                Ok(text) => whole.push_str(&text),
                Err(error) => self.unread.push(format!("{}: {error}", file.display())),
            }
        }
        Ok(whole)
    }
}

/// The file that `#include "NAME"`, `#include <NAME>` or `#tryinclude NAME` names.
fn included(line: &str) -> Option<&str> {
    let line = line.trim().strip_prefix('#')?;
    let name = line.strip_prefix("include").or_else(|| line.strip_prefix("tryinclude"))?;
    name.starts_with([' ', '\t', '"', '<']).then(|| name.trim().trim_matches(['"', '<', '>']))
}

/// The value in `[general]`; `;` begins a comment unless it is escaped, `=>` is `=`. Names of
/// sections are compared as Asterisk does, without case.
fn externnotify(text: &str) -> Option<String> {
    let mut section = String::new();
    let mut found = None;
    for line in without_comments(text).lines() {
        let line = line.replace("\\;", ";");
        if let Some(rest) = line.trim_start().strip_prefix('[') {
            section = rest.split(']').next().unwrap_or_default().to_ascii_lowercase();
        } else if section == "general"
            && let Some((key, value)) = line.split_once('=')
            && key.trim() == CHECK
        {
            let value = value.strip_prefix('>').unwrap_or(value).trim().to_owned();
            found = Some(value).filter(|it| !it.is_empty());
        }
    }
    found
}

/// Comments go from `;--` to `--;` and may be nested, or from any other `;` (and from `;---`) to the
/// end of the line.
fn without_comments(text: &str) -> String {
    let (mut out, mut depth, mut rest) = (String::new(), 0_usize, text);
    while let Some(c) = rest.chars().next() {
        if rest.starts_with(";--") && !rest.starts_with(";---") && !out.ends_with('\\') {
            depth += 1;
            rest = &rest[3..];
        } else if depth > 0 && rest.starts_with("--;") {
            depth -= 1;
            rest = &rest[3..];
        } else if depth == 0 && c == ';' && !out.ends_with('\\') {
            let end = rest.find('\n').unwrap_or(rest.len());
            rest = &rest[end..];
        } else {
            if depth == 0 || c == '\n' {
                out.push(c);
            }
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_found_in_asterisks_dialect_and_only_in_general() {
        let found = |text: &str| externnotify(text);
        let line = "[general]\nformat=wav\nexternnotify => /usr/bin/mwid-externnotify ; ours\n";
        assert_eq!(found(line).as_deref(), Some("/usr/bin/mwid-externnotify"));
        assert_eq!(found("[general]\n;externnotify = x\n"), None);
        assert_eq!(found("[default]\nexternnotify = x\n"), None);
        assert_eq!(found("[general](a)\nexternnotify=x \\; y\n").as_deref(), Some("x ; y"));
        assert_eq!(found("[General]\nexternnotify=x\n").as_deref(), Some("x"));
        let block = "[general]\n;-- old\nexternnotify=x\n;-- older --;\n--; externnotify=y\n";
        assert_eq!(found(block).as_deref(), Some("y"));
        assert_eq!(found("[general]\n;--\nexternnotify=x\n--;\n"), None);
        let line = "[general]\n;--- a line --- \nexternnotify=x ;--- and --- one\n";
        assert_eq!(found(line).as_deref(), Some("x"));
        assert!(found(include_str!("../../etc/asterisk/voicemail.conf")).is_some());
    }

    /// FreePBX writes `[general]` into a file of its own.
    #[test]
    fn included_files_are_read_in_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let first =
            "[general]\n#include vm/general.inc\n#include \"gone.inc\"\n;#include x\n[default]\n";
        fs::create_dir(folder.path().join("vm")).unwrap();
        let path = write("voicemail.conf", first);
        write("vm/general.inc", "format=wav\n#include <vm/more.inc>\n#include vm\n");
        write("vm/more.inc", "externnotify=x ; ours\n#tryinclude vm/more.inc\n");
        let mut reader = Reader::of(&path);
        let text = reader.read(&path).unwrap();
        assert_eq!(externnotify(&text).as_deref(), Some("x"));
        let expected = ["more.inc: it is included again", "vm: it is no file", "gone.inc"];
        assert_eq!(reader.unread.len(), expected.len(), "{:?}", reader.unread);
        for (unread, expected) in reader.unread.iter().zip(expected) {
            assert!(unread.contains(expected), "{unread}");
        }
    }
}
