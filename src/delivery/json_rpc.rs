//! JSON-RPC 2.0 over HTTP, as OpenSIPS's mi_http and Kamailio's jsonrpcs speak it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::Method;
use serde_json::{Value as Json, json};

use super::cut;
use crate::http_client::{Answer, Ask, HttpClient};

/// What came of a call.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reply {
    /// The member `result`.
    Result(Json),
    /// The member `error`.
    Error { code: i64, message: String },
    /// No answer of JSON-RPC, in words, and when to ask again.
    None(String, Option<Duration>),
    /// No answer at all, and why.
    Silent(String),
}

/// Calls a method.
pub(super) async fn call(http: &HttpClient, method: &str, params: Json) -> Reply {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let call = json!({ "jsonrpc": "2.0", "method": method, "params": params, "id": id });
    let ask = Ask {
        method: Method::POST,
        query: String::new(),
        content_type: "application/json",
        body: call.to_string().into_bytes(),
    };
    match http.ask(ask).await {
        Ok(answer) => read(&answer, id),
        Err(error) => Reply::Silent(error.to_string()),
    }
}

/// Kamailio puts its errors behind the HTTP status 400 and 500 too: the body says more.
pub(super) fn read(answer: &Answer, id: u64) -> Reply {
    let none = |what: &str| {
        let body = cut(&String::from_utf8_lossy(&answer.body));
        let words =
            format!("HTTP {} that is no answer of JSON-RPC ({what}): {body:?}", answer.status);
        Reply::None(words, answer.retry_after)
    };
    let reply: Json = match serde_json::from_slice(&answer.body) {
        Ok(reply) => reply,
        Err(_) => return none("no JSON"),
    };
    if let Some(error) = reply.get("error").filter(|error| error.is_object()) {
        let code = error.get("code").and_then(Json::as_i64).unwrap_or_default();
        let message = error.get("message").and_then(Json::as_str).unwrap_or_default();
        return Reply::Error { code, message: cut(message) };
    }
    if reply.get("id").and_then(Json::as_u64) != Some(id) {
        return none("another id");
    }
    match reply.get("result") {
        Some(result) => Reply::Result(result.clone()),
        None => none("neither result nor error"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Reply {
        let body = body.as_bytes().to_vec();
        let content_type = "application/json".to_owned();
        read(&Answer { status, content_type, retry_after: None, body }, 7)
    }

    #[test]
    fn an_error_counts_whatever_the_http_status() {
        let wrong = r#"{"jsonrpc":"2.0","error":{"code":500,"message":"Wrong ETag"},"id":7}"#;
        let error = Reply::Error { code: 500, message: "Wrong ETag".into() };
        assert_eq!(answer(500, wrong), error);
        assert_eq!(answer(200, wrong), error);
        assert_eq!(answer(200, r#"{"result":{},"id":7}"#), Reply::Result(json!({})));
    }

    #[test]
    fn what_is_no_answer_is_said_in_words() {
        for (status, body) in [
            (502, "<html><h1>Bad Gateway</h1>"),
            (200, ""),
            (200, "[1,2"),
            (200, "{}"),
            (200, "[]"),
            (200, r#"{"result":{},"id":8}"#),
            (200, r#"{"error":null,"id":7}"#),
        ] {
            let Reply::None(words, None) = answer(status, body) else { panic!("{body}") };
            assert!(words.starts_with(&format!("HTTP {status} that is no answer")), "{words}");
        }
        let deep = "[".repeat(60_000);
        assert!(matches!(answer(200, &deep), Reply::None(..)));
    }
}
