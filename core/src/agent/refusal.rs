//! Why a request is refused, and how the answer says so.

use std::borrow::Cow;

use thiserror::Error;

/// The methods that the agent understands.
pub(super) const ALLOW: &str = "Allow: SUBSCRIBE, OPTIONS";

/// A refusal. What follows from it for the sender stands in the answer's own headers; the text of
/// the error goes into its Warning (RFC 3261 §20.43) where it helps nobody but the operator.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum Refusal {
    /// 400
    #[error("{0}")]
    BadRequest(Cow<'static, str>),
    /// 401; with the challenges.
    #[error("who are you?")]
    Unauthorized(Vec<String>),
    /// 403
    #[error("forbidden")]
    Forbidden,
    /// 404
    #[error("the Request-URI names no account")]
    NotFound,
    /// 405
    #[error("only SUBSCRIBE and OPTIONS are understood")]
    MethodNotAllowed,
    /// 406
    #[error("the state comes as application/simple-message-summary only")]
    NotAcceptable,
    /// 416
    #[error("only sip: URIs are understood")]
    UnsupportedUriScheme,
    /// 420; with the extensions that are not known.
    #[error("an extension is required that is not known here")]
    BadExtension(String),
    /// 423; with the shortest that is granted, in seconds.
    #[error("the subscription is too short")]
    IntervalTooBrief(u32),
    /// 481
    #[error("there is no such subscription")]
    NoSubscription,
    /// 483
    #[error("Max-Forwards is 0")]
    TooManyHops,
    /// 489
    #[error("only the event package message-summary is known")]
    BadEvent,
    /// 500: the CSeq is lower than one before (RFC 3261 §12.2.2).
    #[error("the CSeq is out of order")]
    OutOfOrder,
    /// 500 with Retry-After: this watcher asks too often. A 503 would tell the proxy to leave us alone
    /// with everybody's requests (RFC 3261 §21.5.4).
    #[error("this subscriber asks too often")]
    TooOften,
    /// 500 with Retry-After: its account has no room.
    #[error("too many subscriptions to this account")]
    AccountFull,
    /// 513
    #[error("its headers are longer than any subscription needs")]
    TooLarge,
    /// 503: it concerns everybody; with the seconds after which to try again.
    #[error("{why}")]
    Unavailable {
        /// What is short.
        why: &'static str,
        /// Retry-After, in seconds.
        retry_after: u32,
    },
}

impl Refusal {
    pub(super) fn bad(why: impl Into<Cow<'static, str>>) -> Self {
        Self::BadRequest(why.into())
    }

    pub(super) fn code(&self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::Unauthorized(_) => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::UnsupportedUriScheme => 416,
            Self::BadExtension(_) => 420,
            Self::IntervalTooBrief(_) => 423,
            Self::NoSubscription => 481,
            Self::TooManyHops => 483,
            Self::BadEvent => 489,
            Self::OutOfOrder | Self::TooOften | Self::AccountFull => 500,
            Self::Unavailable { .. } => 503,
            Self::TooLarge => 513,
        }
    }

    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "Bad Request",
            Self::Unauthorized(_) => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "Not Found",
            Self::MethodNotAllowed => "Method Not Allowed",
            Self::NotAcceptable => "Not Acceptable",
            Self::UnsupportedUriScheme => "Unsupported URI Scheme",
            Self::BadExtension(_) => "Bad Extension",
            Self::IntervalTooBrief(_) => "Interval Too Brief",
            Self::NoSubscription => "Subscription Does Not Exist",
            Self::TooManyHops => "Too Many Hops",
            Self::BadEvent => "Bad Event",
            Self::OutOfOrder | Self::TooOften | Self::AccountFull => "Server Internal Error",
            Self::Unavailable { .. } => "Service Unavailable",
            Self::TooLarge => "Message Too Large",
        }
    }

    /// The header lines that go with it.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = match self {
            Self::Unauthorized(challenges) => return challenges.clone(),
            Self::Forbidden => return Vec::new(),
            Self::MethodNotAllowed => vec![ALLOW.to_owned()],
            Self::NotAcceptable => vec![super::ACCEPT.to_owned()],
            Self::BadExtension(options) => vec![format!("Unsupported: {options}")],
            Self::IntervalTooBrief(min) => vec![format!("Min-Expires: {min}")],
            Self::BadEvent => vec![super::ALLOW_EVENTS.to_owned()],
            Self::TooOften => vec!["Retry-After: 1".to_owned()],
            Self::AccountFull => vec!["Retry-After: 60".to_owned()],
            Self::Unavailable { retry_after, .. } => vec![format!("Retry-After: {retry_after}")],
            _ => Vec::new(),
        };
        lines.push(format!("Warning: 399 mwid \"{self}\""));
        lines
    }
}
