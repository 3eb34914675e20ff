//! The name of a notice in the drop folder.

use std::fmt;

use super::notice::number;

/// How the name of a notice ends.
const SUFFIX: &str = ".call";

/// `STAMP-PROCESS-N.call`, the stamp with 20 digits, so that names sort by time. It holds nothing
/// but three numbers, so whoever wrote it, it is no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName {
    /// When the command was started, nanoseconds since 1970.
    pub stamp: u64,
    /// Id of its process.
    pub process: u32,
    /// Tells files of one process with one stamp apart.
    pub number: u32,
}

impl FileName {
    /// Reads a name. `None` unless it is written exactly as [`Display`](fmt::Display) writes it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_suffix(SUFFIX)?.split('-');
        let name = Self {
            stamp: number(parts.next()?)?,
            process: number(parts.next()?)?,
            number: number(parts.next()?)?,
        };
        (name.to_string() == text).then_some(name)
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stamp, process, number } = self;
        write!(f, "{stamp:020}-{process}-{number}{SUFFIX}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "01795000000123456789-4242-0.call";

    #[test]
    fn only_its_own_form_is_a_name() {
        let name = FileName { stamp: 1_795_000_000_123_456_789, process: 4242, number: 0 };
        assert_eq!((name.to_string().as_str(), FileName::parse(GOOD)), (GOOD, Some(name)));
        for (from, to) in [
            ("0179", "179"),
            ("-4242", "-04242"),
            ("-4242", "-+4242"),
            ("-4242", "--4242"),
            ("-4242", "-4294967296"),
            ("-0", ""),
            ("-0", "-"),
            ("-0", "-0-0"),
            (".call", ""),
            (".call", ".call.call"),
            (".call", ".call\n"),
            ("0179", "../0179"),
            ("0179", "/0179"),
            ("-0.", "-0/../x."),
            ("0179", "99999"),
        ] {
            let bad = GOOD.replacen(from, to, 1);
            assert_eq!(FileName::parse(&bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_written_the_same(text in "[0-9/.a-c+-]{0,40}(\\.call)?") {
            if let Some(name) = FileName::parse(&text) {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
