//! The servers that publish for mwid: `[opensips-mi]`, `[kamailio-rpc]`, `[sipx]`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use mwid_core::message::is_token;

use super::value::ValueError;
use super::{HostPort, HttpUrl, HttpUrlError};

/// `[opensips-mi]`: `pua_publish` of OpenSIPS's management interface.
#[derive(Clone, Debug, PartialEq)]
pub struct OpensipsMi {
    /// `url`: where it is asked. Default: nowhere.
    pub url: Option<MiUrl>,
    /// `expires`: seconds that the presence server is to keep a state. Default 3600.
    pub expires: Duration,
    /// `timeout`: seconds for an answer. Default 10.
    pub timeout: Duration,
    /// `extra_headers`: more headers of the PUBLISH. Default: none.
    pub extra_headers: ExtraHeaders,
    /// `reply_folder`: where OpenSIPS looks for reply FIFOs, and mwid makes its reply sockets.
    /// Default `/run/mwid`.
    pub reply_folder: PathBuf,
}

/// `[kamailio-rpc]`: `pua.publish` of Kamailio's RPC.
#[derive(Clone, Debug, PartialEq)]
pub struct KamailioRpc {
    /// `url`: where it is asked. Default: nowhere.
    pub url: Option<HttpUrl>,
    /// `format = json | xml`. Default `json`.
    pub format: RpcFormat,
    /// `expires`: seconds that the presence server is to keep a state. Default 3600.
    pub expires: Duration,
    /// `timeout`: seconds for an answer. Default 10.
    pub timeout: Duration,
    /// `id`: what the series of an account's publications is called, the account behind it. The
    /// same for all mwid that publish for the same accounts. Default `mwid`.
    pub id: String,
    /// `outbound_proxy`: where Kamailio sends the PUBLISH. Default: as its DNS says.
    pub outbound_proxy: Option<String>,
    /// `extra_headers`: more headers of the PUBLISH. Default: none.
    pub extra_headers: ExtraHeaders,
}

/// `[sipx]`: a sipXpublisher that is told, and a voicemail system that is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Sipx {
    /// `publisher`: its `StatusEvent.cgi`. Default: nowhere.
    pub publisher: Option<HttpUrl>,
    /// `method = get | post`. Default `get`, as sipX has it.
    pub method: SipxMethod,
    /// `body = rfc3842 | 2.4`. Default `rfc3842`.
    pub body: SipxBody,
    /// `voicemail`: where accounts are asked for that no source knows. Default: nowhere.
    pub voicemail: Option<HttpUrl>,
    /// `ask_again`: seconds before an account that is still unknown is asked for again.
    /// Default 300.
    pub ask_again: Duration,
    /// `timeout`: seconds for an answer. Default 10.
    pub timeout: Duration,
}

/// How Kamailio's RPC is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RpcFormat {
    /// JSON-RPC 2.0: the modules xhttp and jsonrpcs.
    Json,
    /// XML-RPC: the module xmlrpc.
    Xml,
}

/// How a sipXpublisher is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SipxMethod {
    /// GET, with a body.
    Get,
    /// POST.
    Post,
}

/// In which shape a sipXpublisher is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SipxBody {
    /// RFC 3842's.
    Rfc3842,
    /// That of SIPxchange 2.4 and earlier: without `Message-Account`.
    V24,
}

/// Where OpenSIPS's management interface is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MiUrl {
    /// `http://host:8888/mi`: JSON-RPC 2.0 over mi_http.
    Http(HttpUrl),
    /// `fifo:/run/opensips/opensips_fifo`: the lines of OpenSIPS 1 and 2 over mi_fifo.
    Fifo(PathBuf),
    /// `udp:host:port`: the same lines over mi_datagram.
    Udp(HostPort),
    /// `unixgram:/run/opensips/mi.sock`: the same over a Unix socket.
    Unix(PathBuf),
}

const MI_SCHEMES: &str = "http://, https://, fifo:/path, udp:host:port, unixgram:/path";

impl FromStr for MiUrl {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let path = |path: &str| match path.starts_with('/') && !path.contains(char::is_control) {
            true => Ok(PathBuf::from(path)),
            false => Err(ValueError::Relative { found: path.chars().take(80).collect() }),
        };
        match text.split_once(':') {
            Some(("fifo", rest)) => path(rest).map(Self::Fifo),
            Some(("unixgram", rest)) => path(rest).map(Self::Unix),
            Some(("udp", rest)) => Ok(Self::Udp(rest.parse()?)),
            _ => match text.parse() {
                Ok(url) => Ok(Self::Http(url)),
                Err(HttpUrlError::Scheme { .. } | HttpUrlError::Syntax(_)) => {
                    Err(HttpUrlError::Scheme { valid: MI_SCHEMES }.into())
                }
                Err(error) => Err(error.into()),
            },
        }
    }
}

impl fmt::Display for MiUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(url) => url.fmt(f),
            Self::Fifo(path) => write!(f, "fifo:{}", path.display()),
            Self::Udp(address) => write!(f, "udp:{address}"),
            Self::Unix(path) => write!(f, "unixgram:{}", path.display()),
        }
    }
}

/// Headers that a server writes into its PUBLISH, `P-Flags: 0 | X-Site: 7`.
///
/// Invariant: each is a token, a colon and text without control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtraHeaders(Vec<String>);

impl ExtraHeaders {
    /// As they stand in a request, each ended by CRLF.
    #[must_use]
    pub fn lines(&self) -> String {
        self.0.iter().map(|header| format!("{header}\r\n")).collect()
    }
}

/// What mwid or the server writes itself.
const TAKEN: [&str; 9] = [
    "SIP-If-Match",
    "Event",
    "Expires",
    "Content-Type",
    "Content-Length",
    "To",
    "From",
    "Via",
    "CSeq",
];

impl FromStr for ExtraHeaders {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        text.split('|')
            .map(|part| {
                let header = super::value::header(part.trim())?;
                let name = header.split_once(':').map_or("", |(name, _)| name.trim_end());
                let is_taken = TAKEN.iter().any(|taken| taken.eq_ignore_ascii_case(name));
                // A quote would end the value in the lines of OpenSIPS's old interface.
                let is_good = is_token(name) && !is_taken;
                if !is_good || header.contains(['"', '\\']) {
                    return Err(ValueError::ExtraHeader {
                        found: header.chars().take(80).collect(),
                    });
                }
                Ok(header)
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl fmt::Display for ExtraHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" | "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_transport_of_the_management_interface_has_its_scheme() {
        for text in [
            "http://127.0.0.1:8888/mi",
            "fifo:/tmp/opensips_fifo",
            "udp:127.0.0.1:8080",
            "unixgram:/run/opensips/mi.sock",
        ] {
            assert_eq!(text.parse::<MiUrl>().unwrap().to_string(), text);
        }
        for text in ["fifo:opensips_fifo", "unixgram:", "udp:", "tcp:h:1", "opensips", "/tmp/fifo"]
        {
            assert!(text.parse::<MiUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn extra_headers_cannot_end_their_line_nor_replace_what_mwid_writes() {
        let headers: ExtraHeaders = "P-Flags: 0 | X-Site: a, b".parse().unwrap();
        assert_eq!(headers.lines(), "P-Flags: 0\r\nX-Site: a, b\r\n");
        assert_eq!(headers.to_string(), "P-Flags: 0 | X-Site: a, b");
        for text in ["P-Flags", "X: a\r\nY: b", "X Y: a", "sip-if-match: a", "X: \"a\"", "X: a |"] {
            assert!(text.parse::<ExtraHeaders>().is_err(), "{text}");
        }
    }
}
