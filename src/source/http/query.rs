//! Query parameters. A `+` is a `+`, as in `+441234567`, and no space: no account has one.

use std::borrow::Cow;

use axum::http::StatusCode;
use percent_encoding::percent_decode_str;

use super::problem::Problem;

/// The value of a parameter, decoded; `None` when it is not there.
pub(super) fn parameter<'a>(
    query: Option<&'a str>,
    name: &str,
) -> Result<Option<Cow<'a, str>>, Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let mut found = None;
    for pair in query.unwrap_or_default().split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if key != name {
            continue;
        }
        let value = percent_decode_str(value).decode_utf8();
        let value = value.map_err(|_| bad(format!("the parameter {name} is not UTF-8")))?;
        if found.replace(value).is_some() {
            return Err(bad(format!("the parameter {name} is given twice")));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(query: &str) -> Option<String> {
        parameter(Some(query), "identity").unwrap().map(Cow::into_owned)
    }

    #[test]
    fn a_value_is_decoded_and_a_plus_stays() {
        assert_eq!(identity("identity=202@example.com").as_deref(), Some("202@example.com"));
        assert_eq!(identity("a=b&identity=sip%3A%2B44%40x&c").as_deref(), Some("sip:+44@x"));
        assert_eq!(identity("identity=+44@x").as_deref(), Some("+44@x"));
        assert_eq!(identity("identity").as_deref(), Some(""));
        assert_eq!(identity("identity2=a&xidentity=b"), None);
        assert_eq!(parameter(None, "identity").unwrap(), None);
    }

    #[test]
    fn one_parameter_twice_or_bytes_that_are_no_text_are_refused() {
        for bad in ["identity=a&identity=a", "identity=a&b&identity", "identity=%ff"] {
            assert!(parameter(Some(bad), "identity").is_err(), "{bad}");
        }
    }
}
