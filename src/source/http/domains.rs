//! Which accounts may be named over HTTP.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::Config;

/// The domains of the accounts that may be named; `None`: any.
#[derive(Clone, Debug)]
pub(super) struct Domains(Option<Arc<BTreeSet<String>>>);

impl Domains {
    /// As `[http] domains` says.
    pub(super) fn new(config: &Config) -> Self {
        Self(config.http_domains().map(Arc::new))
    }

    pub(super) fn has(&self, domain: &str) -> bool {
        self.0.as_ref().is_none_or(|domains| domains.contains(domain))
    }
}
