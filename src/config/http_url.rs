//! An HTTP address that mwid asks: `http://user:password@host:port/path?query`.

use std::fmt;
use std::str::FromStr;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use thiserror::Error;
use url::Url;

use super::secret::{MASK, Secret};

/// An address of HTTP or HTTPS. `Display` prints it with its password masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl {
    /// Whether it is `https`.
    pub tls: bool,
    /// `host:port`; the port only where it is not that of the scheme.
    authority: String,
    /// The path, which starts with `/`, and the query.
    path: String,
    /// Who asks, for Basic authentication (RFC 7617).
    pub user: Option<HttpUser>,
}

/// The user of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUser {
    /// The name.
    pub name: String,
    /// The password; none where there is no colon.
    pub password: Option<Secret>,
}

/// Why an address was refused. No text holds a part of it that may be the password.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HttpUrlError {
    /// Not a URL at all.
    #[error("is no URL ({0}); write http://host:port/path")]
    Syntax(#[from] url::ParseError),
    /// Another scheme.
    #[error("starts with none of: {valid}")]
    Scheme {
        /// What may stand there.
        valid: &'static str,
    },
    /// A part which, percent-decoded, is not text.
    #[error("has a {part} that is not UTF-8 or holds a control character once it is decoded")]
    Encoding {
        /// Which part.
        part: &'static str,
    },
    /// A `:` in the user: Basic authentication cannot carry it.
    #[error("has a user with a \":\" in it, which Basic authentication has no place for")]
    Colon,
    /// A `#` and something behind it.
    #[error("has a \"#\", which is never sent; write %23 for one that belongs to the password")]
    Fragment,
    /// The masked form that mwid prints.
    #[error("holds {MASK}, which mwid prints in place of a password; write the password itself")]
    Mask,
}

impl HttpUrl {
    /// The whole address without its user, with more of a query.
    #[must_use]
    pub fn with_query(&self, query: &str) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let Self { authority, path, .. } = self;
        let mark = match (query, path.contains('?')) {
            ("", _) => "",
            (_, true) => "&",
            (_, false) => "?",
        };
        format!("{scheme}://{authority}{path}{mark}{query}")
    }
}

impl FromStr for HttpUrl {
    type Err = HttpUrlError;

    fn from_str(text: &str) -> Result<Self, HttpUrlError> {
        if text.chars().any(char::is_control) {
            return Err(HttpUrlError::Encoding { part: "character" });
        }
        let url = Url::parse(text)?;
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(HttpUrlError::Scheme { valid: "http://, https://" }),
        };
        if url.fragment().is_some() {
            return Err(HttpUrlError::Fragment);
        }
        let host = url.host_str().ok_or(url::ParseError::EmptyHost)?;
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        Ok(Self { tls, authority, path: format!("{}{query}", url.path()), user: user(&url)? })
    }
}

fn user(url: &Url) -> Result<Option<HttpUser>, HttpUrlError> {
    let decode = |part, text| match percent_decode_str(text).decode_utf8() {
        Ok(decoded) if !decoded.chars().any(char::is_control) => Ok(decoded.into_owned()),
        _ => Err(HttpUrlError::Encoding { part }),
    };
    let name = decode("user", url.username())?;
    let password = url.password().map(|text| decode("password", text)).transpose()?;
    if name.contains(':') {
        return Err(HttpUrlError::Colon);
    }
    if password.as_deref() == Some(MASK) {
        return Err(HttpUrlError::Mask);
    }
    let is_given = !name.is_empty() || password.is_some();
    Ok(is_given.then(|| HttpUser { name, password: password.map(Secret::new) }))
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", if self.tls { "https" } else { "http" })?;
        if let Some(user) = &self.user {
            write!(f, "{}", utf8_percent_encode(&user.name, NON_ALPHANUMERIC))?;
            if user.password.is_some() {
                write!(f, ":{MASK}")?;
            }
            write!(f, "@")?;
        }
        write!(f, "{}{}", self.authority, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_are_decoded_and_the_password_is_masked() {
        let url: HttpUrl = "http://op%40sip:p%3A%23+@h:8888/mi?a=1".parse().unwrap();
        let user = url.user.as_ref().unwrap();
        assert_eq!(user.name, "op@sip");
        assert_eq!(user.password.as_ref().unwrap().reveal(), "p:#+");
        assert_eq!(url.to_string(), "http://op%40sip:********@h:8888/mi?a=1");
        assert!(!format!("{url:?}").contains("p:#"));
        assert_eq!(url.with_query("b=2"), "http://h:8888/mi?a=1&b=2");
        assert_eq!(url.with_query(""), "http://h:8888/mi?a=1");
    }

    #[test]
    fn what_is_printed_reads_back_the_same() {
        for text in ["http://h/", "https://u@[2001:db8::1]:8443/a%20b?x=y", "http://h:8888/mi"] {
            let url: HttpUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), text);
        }
        let url: HttpUrl = "HTTP://Host.example".parse().unwrap();
        assert_eq!(url.with_query("i=1"), "http://host.example/?i=1");
    }

    #[test]
    fn a_bad_address_is_refused_without_a_word_of_its_password() {
        for (text, error) in [
            ("ftp://u:hunter2@h/", HttpUrlError::Scheme { valid: "http://, https://" }),
            ("http://u:hunter2@h/#x", HttpUrlError::Fragment),
            ("http://u:%FFhunter2@h/", HttpUrlError::Encoding { part: "password" }),
            ("http://u%0A:hunter2@h/", HttpUrlError::Encoding { part: "user" }),
            ("http://u%3Ax:hunter2@h/", HttpUrlError::Colon),
            ("http://u:********@h/", HttpUrlError::Mask),
            ("http://h\r\nX: y/", HttpUrlError::Encoding { part: "character" }),
        ] {
            assert_eq!(text.parse::<HttpUrl>(), Err(error), "{text}");
        }
        let error = "http://u:hunter2@h:x/".parse::<HttpUrl>().unwrap_err();
        assert!(matches!(error, HttpUrlError::Syntax(_)) && !error.to_string().contains("hunter"));
    }
}
