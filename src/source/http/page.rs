//! What people and Prometheus read: the status page (status.html), and what it and they ask for.
//!
//! The page is for everybody and says nothing; what it shows it asks for, with a token where there is
//! one. The browser is told to run and load nothing but what is in it.

use std::sync::LazyLock;

use axum::extract::State;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mwid_core::mailbox::Account;
use serde_json::Value;
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
    let page = desk.ask(|reply| Ask::Metrics { reply }).await?;
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], page))
}

/// `GET /v1/pending`: what `mwid show pending --json` prints, of the accounts that may be named.
pub(super) async fn pending(State(desk): State<Desk>) -> Result<Response, Problem> {
    let mut report = desk.ask(|reply| Ask::Pending { limit: NAMED, reply }).await?;
    report.accounts.retain(|pending| may_be_named(&desk, &pending.account));
    Ok(json::ok(&report))
}

/// `GET /v1/recent`: the last minutes of NOTIFYs.
pub(super) async fn recent(State(desk): State<Desk>) -> Result<Response, Problem> {
    let mut recent = desk.ask(|reply| Ask::Recent { reply }).await?;
    if let Some(notifies) = recent["notifies"].as_array_mut() {
        let named = |notify: &Value| notify["account"].as_str().unwrap_or_default().to_owned();
        notifies.retain(|notify| may_be_named(&desk, &named(notify)));
    }
    Ok(json::ok(&recent))
}

fn may_be_named(desk: &Desk, account: &str) -> bool {
    account.parse().is_ok_and(|account: Account| desk.may_name(&account))
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
