//! What people and Prometheus read: the status page (status.html), and what it and they ask for.
//!
//! The page is for everybody and says nothing; what it shows it asks for, with a token where there is
//! one. The browser is told to run and load nothing but what is in it.

use std::sync::{Arc, LazyLock};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::Ask;
use super::desk::Desk;
use super::json;
use super::problem::Problem;
use crate::metrics;

const PAGE: &str = include_str!("status.html");

/// How many accounts that wait are named.
const NAMED: usize = 200;

/// Scripts and styles go by their hash, so a word from elsewhere that looks like one is not run.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let [style, script] = ["style", "script"].map(|element| hash(inside(PAGE, element)));
    format!(
        "default-src 'none'; style-src '{style}'; script-src '{script}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

/// What stands in the only element of this name.
fn inside<'a>(page: &'a str, element: &str) -> &'a str {
    let (begin, end) = (format!("<{element}>"), format!("</{element}>"));
    let rest = page.split_once(&begin).map_or("", |(_, rest)| rest);
    rest.split_once(&end).map_or("", |(text, _)| text)
}

fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

/// `GET /`
pub(super) async fn page() -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, PAGE)
}

/// `GET /metrics`
pub(super) async fn metrics(State(desk): State<Desk>) -> Result<impl IntoResponse, Problem> {
    let pages = Arc::clone(&desk.pages);
    let make = async move { desk.ask(|reply| Ask::Metrics { reply }).await.map(Bytes::from) };
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], pages.metrics.get(make).await?))
}

/// `GET /v1/status`: what `mwid status --json` prints, without accounts that may not be named.
pub(super) async fn status(State(desk): State<Desk>) -> Result<impl IntoResponse, Problem> {
    let pages = Arc::clone(&desk.pages);
    let make = async move { json::written(&desk.ask(|reply| Ask::Status { reply }).await?) };
    Ok((json::KIND, pages.status.get(make).await?))
}

/// `GET /v1/pending`: what `mwid show pending --json` prints, of the accounts that may be named.
pub(super) async fn pending(State(desk): State<Desk>) -> Result<impl IntoResponse, Problem> {
    let pages = Arc::clone(&desk.pages);
    let ask = |reply| Ask::Pending { limit: NAMED, reply };
    let make = async move { json::written(&desk.ask(ask).await?) };
    Ok((json::KIND, pages.pending.get(make).await?))
}

/// `GET /v1/recent`: the last minutes of NOTIFYs.
pub(super) async fn recent(State(desk): State<Desk>) -> Result<impl IntoResponse, Problem> {
    let pages = Arc::clone(&desk.pages);
    let make = async move { json::written(&desk.ask(|reply| Ask::Recent { reply }).await?) };
    Ok((json::KIND, pages.recent.get(make).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_one_file_whose_style_and_script_are_known_by_their_hashes() {
        for element in ["style", "script"] {
            assert_eq!(PAGE.matches(&format!("<{element}")).count(), 1, "{element}");
            assert!(inside(PAGE, element).len() > 500, "{element}");
        }
        assert_eq!(
            hash("alert('Hello, world.');"),
            "sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng="
        );
        assert!(POLICY.contains(&hash(inside(PAGE, "script"))), "{}", *POLICY);
        // What a browser would not run, or could be made to run something else.
        for bad in [
            " style=",
            " onclick=",
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
            "http://",
            "https://",
            "src=",
        ] {
            let is_namespace = bad == "http://" && PAGE.matches(bad).count() == 1;
            assert!(is_namespace || !PAGE.contains(bad), "{bad}");
        }
    }
}
