//! Asterisk's ini dialect, turned line by line into plain ini.
//!
//! - `key = value` and `key => value`; the first `=` counts, so `vmexten = a=b` is `a=b`.
//! - `;` starts a comment at the start of a line, after white space or after `[section]`. `\;` is always a `;`. A `;`
//!   that is glued to a value (`useragent=Foo;bar`) **stays in the value**, because SIP values have
//!   it; Asterisk would cut there, so its line is reported in [`Plain::glued`].
//! - `;--` to `--;` is a comment over any number of lines, and may be nested.
//! - `#` starts no comment. `#include`, `#exec` and templates, `[name](…)`, are refused.
//! - A byte order mark is dropped; lines may end in CRLF.
//!
//! rust-ini behind this pass sees only lines that it cannot misread: one entry or header a line,
//! every mark escaped. What it would swallow (a line without `=`) is refused here, by line.

use crate::config::error::{ConfigError, Cut, Problem};

/// The outcome of the pass.
#[derive(Debug, Default)]
pub(super) struct Plain {
    /// Plain ini with escapes; as many lines as the input, those without an entry empty.
    pub(super) text: String,
    /// The line of each section header, in order.
    pub(super) headers: Vec<usize>,
    /// The line of each entry, in order.
    pub(super) entries: Vec<usize>,
    /// The lines with a `;` glued to a value.
    pub(super) glued: Vec<usize>,
    /// What is wrong, by line.
    pub(super) errors: Vec<ConfigError>,
}

/// Where a line stands.
#[derive(Default)]
enum Place {
    /// Before the first section.
    #[default]
    Outside,
    /// In a section.
    Section,
    /// Below a header that was refused: its keys are of no known section.
    Refused,
}

/// Open `;--` comments: where the outermost began and how many there are.
#[derive(Default)]
struct Comment {
    start: usize,
    depth: usize,
}

/// A line without its comment.
struct Bare {
    text: String,
    glued: bool,
}

/// Turns a file into plain ini. Line numbers count from 1.
pub(super) fn plain(text: &str) -> Plain {
    let (mut plain, mut place, mut comment) =
        (Plain::default(), Place::default(), Comment::default());
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (number, line) in (1..).zip(text.split('\n')) {
        let bare = comment.strip(number, line.strip_suffix('\r').unwrap_or(line));
        if let Err(problem) = plain.line(number, &bare, &mut place) {
            plain.errors.push(ConfigError::at(number, problem));
        }
        plain.text.push('\n');
    }
    if comment.depth > 0 {
        plain.errors.push(ConfigError::at(comment.start, Problem::OpenComment));
    }
    plain
}

impl Comment {
    /// Cuts the comment off a line.
    fn strip(&mut self, number: usize, line: &str) -> Bare {
        let mut bare = Bare { text: String::new(), glued: false };
        let mut rest = line;
        while let Some(c) = rest.chars().next() {
            let opens = rest.starts_with(";--") && !rest.starts_with(";---");
            let header = bare.text.ends_with(']') && bare.text.trim_start().starts_with('[');
            let separate =
                header || bare.text.is_empty() || bare.text.ends_with(char::is_whitespace);
            let length = match c {
                '-' if self.depth > 0 && rest.starts_with("--;") => {
                    self.depth -= 1;
                    3
                }
                ';' if opens && (separate || self.depth > 0) => {
                    if self.depth == 0 {
                        self.start = number;
                    }
                    self.depth += 1;
                    3
                }
                _ if self.depth > 0 => c.len_utf8(),
                '\\' if rest.starts_with("\\;") => {
                    bare.text.push(';');
                    2
                }
                ';' if separate => break,
                _ => {
                    bare.glued |= c == ';';
                    bare.text.push(c);
                    c.len_utf8()
                }
            };
            rest = &rest[length..];
        }
        bare
    }
}

impl Plain {
    fn line(&mut self, number: usize, bare: &Bare, place: &mut Place) -> Result<(), Problem> {
        if let Some(found) = bare.text.chars().find(|&c| c.is_control() && c != '\t') {
            return Err(Problem::Control { found });
        }
        let text = bare.text.trim();
        if text.is_empty() {
            return Ok(());
        }
        if let Some(rest) = text.strip_prefix('[') {
            *place = Place::Refused;
            let section = header(rest)?;
            *place = Place::Section;
            self.text.push_str(&format!("[{}]", escaped(section)));
            self.headers.push(number);
            return Ok(());
        }
        let (key, value) = entry(text)?;
        match place {
            Place::Outside => return Err(Problem::OutsideSection { key: Cut(key).to_string() }),
            Place::Refused => return Ok(()),
            Place::Section => {}
        }
        self.text.push_str(&format!("{}={}", escaped(key), escaped(value)));
        self.entries.push(number);
        if bare.glued {
            self.glued.push(number);
        }
        Ok(())
    }
}

fn header(rest: &str) -> Result<&str, Problem> {
    let (section, behind) = rest.split_once(']').ok_or(Problem::SectionSyntax)?;
    let (section, behind) = (section.trim(), behind.trim());
    match behind {
        _ if behind.starts_with('(') => {
            Err(Problem::Template { section: Cut(section).to_string() })
        }
        "" if !section.is_empty() => Ok(section),
        _ => Err(Problem::SectionSyntax),
    }
}

fn entry(text: &str) -> Result<(&str, &str), Problem> {
    let word = text.split(|c: char| c.is_whitespace() || c == '=').next().unwrap_or_default();
    if ["#include", "#tryinclude", "#exec"].contains(&word) {
        return Err(Problem::Directive { directive: word.to_owned() });
    }
    let (key, value) =
        text.split_once('=').ok_or_else(|| Problem::NoEquals { word: Cut(word).to_string() })?;
    let (key, value) = (key.trim(), value.strip_prefix('>').unwrap_or(value).trim());
    if key.is_empty() {
        return Err(Problem::NoKey);
    }
    Ok((key, value))
}

/// Every mark behind a backslash, so that rust-ini takes none of them for its own.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_punctuation() {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use ini::{Ini, ParseOption};
    use proptest::prelude::*;

    fn read(text: &str) -> (Vec<(String, String, String)>, Plain) {
        let plain = plain(text);
        let option = ParseOption { enabled_quote: false, ..ParseOption::default() };
        let ini = Ini::load_from_str_opt(&plain.text, option).unwrap();
        let mut all = Vec::new();
        for (section, properties) in &ini {
            for (key, value) in properties {
                all.push((section.unwrap().to_owned(), key.to_owned(), value.to_owned()));
            }
        }
        (all, plain)
    }

    fn value(line: &str) -> String {
        let (all, plain) = read(&format!("[s]\n{line}\n"));
        assert!(plain.errors.is_empty(), "{line}: {:?}", plain.errors);
        all[0].2.clone()
    }

    fn problem(text: &str) -> (usize, String) {
        let plain = plain(text);
        assert_eq!(plain.errors.len(), 1, "{text:?}: {:?}", plain.errors);
        (plain.errors[0].line.unwrap(), plain.errors[0].to_string())
    }

    #[test]
    fn an_equals_sign_and_an_arrow_are_the_same() {
        for line in ["k=v", "k = v", "k => v", "k=>v", "\tk  =\tv\t", "k = v ; comment", "k=v\r"] {
            assert_eq!(value(line), "v", "{line:?}");
        }
        assert_eq!(value("k = = >v"), "= >v");
        assert_eq!(value("k => *97=1"), "*97=1");
        assert_eq!(value("k ="), "");
    }

    #[test]
    fn a_semicolon_starts_a_comment_only_after_white_space() {
        assert_eq!(value("k = sip:a@b;transport=udp"), "sip:a@b;transport=udp");
        assert_eq!(value("k = a\\;b \\; c ; d"), "a;b ; c");
        assert_eq!(value("k = a\t;b"), "a");
        assert_eq!(value("k = ;b"), "");
        assert_eq!(read("[s]\na=x;y\nb=x\\;y\n;c=x;y\n").1.glued, [2]);
    }

    #[test]
    fn what_other_ini_readers_make_special_is_kept() {
        for text in ["# no comment", "\"quoted\"", "'", "C:\\n\\x41\\", "a:b", "[x]", "%(x)s", "é"]
        {
            assert_eq!(value(&format!("k = {text}")), text);
        }
        assert_eq!(read("[s]\n#k:[1] = v").0[0].1, "#k:[1]");
    }

    #[test]
    fn a_comment_may_touch_a_section() {
        let (all, plain) = read("[s];comment\na=1\n[t];-- x --;\nb=2");
        assert!(plain.errors.is_empty());
        assert_eq!((all[0].0.as_str(), all[1].0.as_str()), ("s", "t"));
    }

    #[test]
    fn block_comments_hide_their_lines_and_may_be_nested() {
        let (all, plain) = read("[s] ;-- x\na=1\n;-- b=2 --;\nc=3\n--;\nd=4 ;-- x --; ;---- y\n");
        assert!(plain.errors.is_empty());
        assert_eq!(all, [("s".into(), "d".into(), "4".into())]);
        assert_eq!((plain.headers, plain.entries), (vec![1], vec![6]));
        let open = "the comment that starts here with \";--\" has no end; close it with \"--;\"";
        assert_eq!(problem("[s]\n;--\na=1"), (2, open.into()));
    }

    #[test]
    fn a_byte_order_mark_and_crlf_are_tolerated() {
        let (all, plain) = read("\u{feff}[s]\r\na=1\r\n\r\nb=2");
        assert_eq!((all.len(), plain.entries, plain.errors.len()), (2, vec![2, 4], 0));
    }

    #[test]
    fn each_refused_line_is_named() {
        for (text, line, error) in [
            ("proxy=a", 1, "\"proxy\" stands before any section; write [general] above it"),
            (
                "[s]\nauth_password hunter2\nb=1",
                2,
                "\"auth_password\" has no \"=\" behind it; write key = value, or ; in front of a comment",
            ),
            ("[s]\n= v", 2, "no key in front of \"=\""),
            ("\n[s", 2, "not a section; write [name]"),
            ("[]", 1, "not a section; write [name]"),
            ("[s] x", 1, "not a section; write [name]"),
            (
                "[s](base)\nunread=1",
                1,
                "section templates, [s](…), are not supported; write the keys into [s]",
            ),
            ("#include \"x.conf\"", 1, "#include is not supported; put everything into this file"),
            ("#exec /bin/x", 1, "#exec is not supported; put everything into this file"),
            ("[s]\na=1\0", 2, "holds the control character '\\0'; remove it"),
            ("[s]\na=1\rb=2", 2, "holds the control character '\\r'; remove it"),
        ] {
            assert_eq!(problem(text), (line, error.to_owned()), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn rust_ini_sees_every_entry_that_the_pass_saw(
            text in "([\\[\\]a-c =>;:#\\\\\"'\t.-]{0,12}\r?\n){0,8}"
        ) {
            let (all, plain) = read(&text);
            prop_assert_eq!(all.len(), plain.entries.len());
            prop_assert_eq!(plain.text.lines().count(), text.split('\n').count());
        }

        #[test]
        fn any_value_comes_back(value in "\\PC{0,20}") {
            let value = value.trim();
            let (all, _) = read(&format!("[s]\nk = {}", value.replace(';', "\\;")));
            prop_assert_eq!(&all[0].2, value);
        }
    }
}
