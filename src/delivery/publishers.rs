//! The ways that are not SIP: each a file with one verb, `deliver`, chosen here.

use std::sync::Arc;

use mwid_core::publication::{Order, Outcome, Way};

use super::Published;
use super::kamailio_rpc::KamailioRpc;
use super::line::Line;
use super::opensips_mi::OpensipsMi;
use super::sipx::Sipx;
use crate::config::{Config, MiUrl};
use crate::http_client::ClientError;

/// Requests to one HTTP server at once.
const PLACES: usize = 16;

/// Calls of one FIFO or socket at once: each has a file of its own, and OpenSIPS takes them one by
/// one.
const LINE_PLACES: usize = 4;

/// All of them, as far as they are configured.
#[derive(Debug)]
pub struct Publishers {
    opensips: Option<Arc<Server<OpensipsMi>>>,
    kamailio: Option<Arc<Server<KamailioRpc>>>,
    sipx: Option<Arc<Server<Sipx>>>,
}

#[derive(Debug)]
struct Server<T> {
    line: Line,
    publisher: T,
}

/// What a server becomes: a new one, the one before where its section says the same, or where its
/// section is gone: what it published is removed by it.
fn server<T>(
    new: Option<T>,
    places: usize,
    before: Option<(&Option<Arc<Server<T>>>, bool)>,
) -> Option<Arc<Server<T>>> {
    let is_same = before.is_some_and(|(_, is_same)| is_same);
    match new {
        Some(publisher) if !is_same => {
            Some(Arc::new(Server { line: Line::new(places), publisher }))
        }
        _ => before.and_then(|(server, _)| server.clone()),
    }
}

impl Publishers {
    /// Those that are configured. `before` are those of another configuration.
    ///
    /// # Errors
    /// [`ClientError`] when an address cannot be asked.
    pub fn new(config: &Config, before: Option<(&Self, &Config)>) -> Result<Self, ClientError> {
        let voicemail = || config.general.vmexten.clone();
        let opensips = OpensipsMi::new(&config.opensips_mi, voicemail())?;
        let kamailio = KamailioRpc::new(&config.kamailio_rpc, voicemail())?;
        let sipx = Sipx::new(&config.sipx, voicemail())?;
        let is_http = matches!(config.opensips_mi.url, Some(MiUrl::Http(_)));
        let places = if is_http { PLACES } else { LINE_PLACES };
        let old = |is_same: fn(&Config, &Config) -> bool| {
            let before = before.as_ref();
            before.map(|(it, old)| {
                (*it, is_same(old, config) && old.general.vmexten == config.general.vmexten)
            })
        };
        let opensips_before = old(|old, new| old.opensips_mi == new.opensips_mi);
        let kamailio_before = old(|old, new| old.kamailio_rpc == new.kamailio_rpc);
        let sipx_before = old(|old, new| old.sipx == new.sipx);
        Ok(Self {
            opensips: server(
                opensips,
                places,
                opensips_before.map(|(it, same)| (&it.opensips, same)),
            ),
            kamailio: server(
                kamailio,
                PLACES,
                kamailio_before.map(|(it, same)| (&it.kamailio, same)),
            ),
            sipx: server(sipx, PLACES, sipx_before.map(|(it, same)| (&it.sipx, same))),
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
                Some(it) => Some(it.line.pass(it.publisher.deliver(order)).await),
                None => None,
            },
            Way::KamailioRpc => match &self.kamailio {
                Some(it) => Some(it.line.pass(it.publisher.deliver(order)).await),
                None => None,
            },
            Way::Sipx => match &self.sipx {
                Some(it) => Some(it.line.pass(it.publisher.deliver(order)).await),
                None => None,
            },
            Way::Notify | Way::Publish => None,
        };
        // The configuration changed while the step waited, or before mwid was started.
        done.unwrap_or_else(|| Published {
            outcome: Outcome::Later(None),
            answer: format!("the way {} is not configured", order.way),
            is_silent: false,
        })
    }

    /// mwid stops: what is under way goes on, nothing else begins.
    pub fn close(&self) {
        let lines = [
            self.opensips.as_ref().map(|it| &it.line),
            self.kamailio.as_ref().map(|it| &it.line),
            self.sipx.as_ref().map(|it| &it.line),
        ];
        lines.into_iter().flatten().for_each(Line::close);
    }
}
