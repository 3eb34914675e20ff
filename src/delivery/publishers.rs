//! The ways that are not SIP: each a file with one verb, `deliver`, chosen here.

use mwid_core::publication::{Order, Outcome, Way};

use super::Published;
use crate::config::Config;

/// All of them, as the configuration has them.
#[derive(Debug)]
pub struct Publishers {}

impl Publishers {
    /// Those that are configured.
    #[must_use]
    pub fn new(_config: &Config) -> Self {
        Self {}
    }

    /// Takes a publication one step on. It runs beside the loop and may take its time, but not for
    /// ever.
    pub async fn deliver(&self, order: &Order) -> Published {
        match order.way {
            // The configuration changed while the step waited.
            Way::Notify | Way::Publish | Way::OpensipsMi | Way::KamailioRpc | Way::Sipx => {
                let answer = format!("the way {} is not configured", order.way);
                Published { outcome: Outcome::Later(None), answer }
            }
        }
    }
}
