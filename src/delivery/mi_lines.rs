//! The lines of OpenSIPS's management interface before JSON: mi_fifo and mi_datagram of 1 and 2.
//!
//! A call is `:command:reply_fifo`, a line for each parameter, and an empty line. The document says
//! that a body "has to be a single line for FIFO transport"; a message summary cannot be one. But
//! both parsers read a value between quotes over several lines, up to a quote at the end of a line,
//! and keep its line breaks. A value without quotes that has `::` in it, as an IPv6 address may,
//! would be taken apart into a name and a value, so that is quoted too.

use thiserror::Error;

/// A value that these lines cannot carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum LineError {
    #[error("{0:?} cannot be written in the lines of mi_fifo and mi_datagram")]
    Character(char),
    #[error("an empty line would end the call")]
    EmptyLine,
}

/// Writes a call. `reply` is the name of the reply FIFO, empty for datagrams.
pub(super) fn write(command: &str, reply: &str, values: &[&str]) -> Result<Vec<u8>, LineError> {
    let mut out = format!(":{command}:{reply}\n");
    for value in values {
        if let Some(bad) = value.chars().find(|c| ['"', '\\', '\0'].contains(c)) {
            return Err(LineError::Character(bad));
        }
        if value.is_empty() || value.starts_with('\n') || value.contains("\n\n") {
            return Err(LineError::EmptyLine);
        }
        let is_quoted = value.contains("::") || value.contains(char::is_whitespace);
        let quote = if is_quoted { "\"" } else { "" };
        out.push_str(&format!("{quote}{value}{quote}\n"));
    }
    out.push('\n');
    Ok(out.into_bytes())
}

/// What was replied: `200 OK`, then values and `name:: value`, a line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reply {
    /// Of the interface itself.
    pub(super) code: i64,
    pub(super) reason: String,
    /// The first value without a name: what the presence server answered, `200 OK`.
    pub(super) value: Option<String>,
    pub(super) named: Vec<(String, String)>,
}

impl Reply {
    /// The value of a name, whatever its case.
    pub(super) fn named(&self, name: &str) -> Option<&str> {
        let found = self.named.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// Reads a reply; `None` when its first line has no code.
pub(super) fn read(bytes: &[u8]) -> Option<Reply> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let (code, reason) = lines.next().map(|line| line.split_once(' ').unwrap_or((line, "")))?;
    let is_code = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit());
    let code = code.parse().ok().filter(|_| is_code)?;
    let mut reply = Reply { code, reason: reason.to_owned(), ..Reply::default() };
    for line in lines {
        match line.split_once("::") {
            Some((name, value)) => {
                reply.named.push((name.trim().to_owned(), value.trim().to_owned()));
            }
            None => {
                reply.value.get_or_insert_with(|| line.to_owned());
            }
        }
    }
    Some(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_the_lines_of_the_document() {
        let body = "Messages-Waiting: yes\r\nVoice-Message: 1/0 (0/0)\r\n";
        let values = ["sip:system@opensips.org", "3600", "message-summary", "a/b", ".", ".", body];
        let call = write("pua_publish", "fifo_test_reply", &values).unwrap();
        assert_eq!(
            String::from_utf8(call).unwrap(),
            ":pua_publish:fifo_test_reply\nsip:system@opensips.org\n3600\nmessage-summary\na/b\n.\n.\n\
             \"Messages-Waiting: yes\r\nVoice-Message: 1/0 (0/0)\r\n\"\n\n"
        );
    }

    #[test]
    fn what_would_be_taken_apart_is_quoted_and_what_cannot_be_written_refused() {
        let written = |value| write("c", "", &[value]).map(|call| String::from_utf8(call).unwrap());
        assert_eq!(written("sip:a@[::1]"), Ok(":c:\n\"sip:a@[::1]\"\n\n".to_owned()));
        assert_eq!(written("P-Flags: 0\r\n"), Ok(":c:\n\"P-Flags: 0\r\n\"\n\n".to_owned()));
        assert_eq!(written("a\"b"), Err(LineError::Character('"')));
        assert_eq!(written("a\\"), Err(LineError::Character('\\')));
        assert_eq!(written("a\n\nb"), Err(LineError::EmptyLine));
        assert_eq!(written(""), Err(LineError::EmptyLine));
    }

    #[test]
    fn replies_are_read() {
        let reply = read(b"200 OK\n200 OK\nETag:: a.1795.1.0\nExpires:: 3600\n\n").unwrap();
        assert_eq!((reply.code, reply.value.as_deref()), (200, Some("200 OK")));
        assert_eq!(reply.named("etag"), Some("a.1795.1.0"));
        assert_eq!(reply.named("Expires"), Some("3600"));
        let wrong = read(b"418 Wrong ETag\n\n").unwrap();
        assert_eq!((wrong.code, wrong.reason.as_str()), (418, "Wrong ETag"));
        for rubbish in [&b""[..], b"\n\n", b"OK", b"20 OK", b"\xff\xfe", b"+20 OK"] {
            assert_eq!(read(rubbish), None);
        }
    }
}
