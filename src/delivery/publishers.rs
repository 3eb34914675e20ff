//! The ways that are not SIP: each a file with one verb, `deliver`, chosen here.

use mwid_core::publication::{Order, Outcome, Way};

use super::Published;
use super::kamailio_rpc::KamailioRpc;
use super::opensips_mi::OpensipsMi;
use super::sipx::Sipx;
use crate::config::Config;
use crate::http_client::ClientError;

/// All of them, as far as they are configured.
#[derive(Debug)]
pub struct Publishers {
    opensips: Option<OpensipsMi>,
    kamailio: Option<KamailioRpc>,
    sipx: Option<Sipx>,
}

impl Publishers {
    /// Those that are configured.
    ///
    /// # Errors
    /// [`ClientError`] when an address cannot be asked.
    pub fn new(config: &Config) -> Result<Self, ClientError> {
        let voicemail = || config.general.vmexten.clone();
        Ok(Self {
            opensips: OpensipsMi::new(&config.opensips_mi, voicemail())?,
            kamailio: KamailioRpc::new(&config.kamailio_rpc, voicemail())?,
            sipx: Sipx::new(&config.sipx, voicemail())?,
        })
    }

    /// Whether two configurations make the same of them.
    #[must_use]
    pub fn are_same(old: &Config, new: &Config) -> bool {
        (&old.opensips_mi, &old.kamailio_rpc, &old.sipx, &old.general.vmexten)
            == (&new.opensips_mi, &new.kamailio_rpc, &new.sipx, &new.general.vmexten)
    }

    /// Takes a publication one step on. It runs beside the loop and may take its time, but not for
    /// ever.
    pub async fn deliver(&self, order: &Order) -> Published {
        let done = match order.way {
            Way::OpensipsMi => match &self.opensips {
                Some(opensips) => Some(opensips.deliver(order).await),
                None => None,
            },
            Way::KamailioRpc => match &self.kamailio {
                Some(kamailio) => Some(kamailio.deliver(order).await),
                None => None,
            },
            Way::Sipx => match &self.sipx {
                Some(sipx) => Some(sipx.deliver(order).await),
                None => None,
            },
            Way::Notify | Way::Publish => None,
        };
        // The configuration changed while the step waited.
        done.unwrap_or_else(|| Published {
            outcome: Outcome::Later(None),
            answer: format!("the way {} is not configured", order.way),
        })
    }
}
