//! The configuration: what an operator can say, as plain data.
//!
//! Each part of the daemon takes the section that is its own (`&config::Spool`, …) and nothing else.
//! `Default` of each section is what the documented defaults say.
//!
//! The way from a file to a [`Config`]:
//!
//! 1. `dialect`: Asterisk's ini dialect becomes plain ini, line by line;
//! 2. `parse`: each entry is looked up in the `table` and read by its codec from `value`;
//! 3. `secrets`: passwords are fetched from where the file says that they are;
//! 4. `agent`: what the presence agent makes of other sections;
//! 5. `warning`: what is allowed but deserves a second look.
//!
//! To add a key: a field here (or in `ways`), a row in `table`, its line in `etc/zonkeymwi.conf`. The compiler asks
//! for the row, a test for the line, another for a test of the key.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use mwid_core::mailbox::{Account, Mailbox};
use mwid_core::mailboxes::Directory;
pub use mwid_core::notify::{RequestUri, Route};
pub use mwid_core::publication::{Way, Ways};

mod agent;
pub mod check;
mod dialect;
mod error;
mod host;
mod http_url;
mod parse;
mod print;
mod secret;
mod secrets;
mod table;
mod url;
mod value;
mod warning;
mod ways;

pub(crate) use error::located;
pub use error::{ConfigError, ConfigErrors, Problem, ReadError, SecretError};
pub use host::{HostPort, HostPortError};
pub use http_url::{HttpUrl, HttpUrlError, HttpUser};
pub use parse::{Environment, Loaded, Process, control, load, parse};
pub use print::{KeyInfo, keys, sample};
pub use secret::{Origin, Secret};
pub use url::{DatabaseUrl, Server, UrlError};
pub use value::{ValueError, node_name};
pub use warning::{Warning, WarningKind, externnotify_command};
pub use ways::{
    ExtraHeaders, KamailioRpc, MiUrl, OpensipsMi, RpcFormat, Sipx, SipxBody, SipxMethod,
};

/// Everything that the ini file says, defaults filled in. Its own `Default` lacks only the `proxy`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// `[general]`
    pub general: General,
    /// `[spool]`
    pub spool: Spool,
    /// `[ami]`
    pub ami: Ami,
    /// `[database]`
    pub database: Database,
    /// `[cluster]`
    pub cluster: Cluster,
    /// `[contexts]` and `[mailboxes]`
    pub accounts: Accounts,
    /// `[delivery]` and `[delivery_contexts]`
    pub delivery: Delivery,
    /// `[publish]`
    pub publish: Publish,
    /// `[opensips-mi]`
    pub opensips_mi: OpensipsMi,
    /// `[kamailio-rpc]`
    pub kamailio_rpc: KamailioRpc,
    /// `[sipx]`
    pub sipx: Sipx,
    /// `[webhook]`
    pub webhook: Webhook,
    /// `[agent]`
    pub agent: Agent,
    /// `[users]` and `[watch]`
    pub watchers: Watchers,
    /// `[timers]`
    pub timers: Timers,
    /// `[state]`
    pub state: State,
    /// `[control]`
    pub control: Control,
    /// `[http]`
    pub http: Http,
    /// `[capture]`
    pub capture: Capture,
}

/// `[general]`: the SIP side.
#[derive(Clone, Debug, PartialEq)]
pub struct General {
    /// `proxy`: where NOTIFYs go, in order of preference. The only required key; empty only with
    /// `next_hop = dialog`.
    pub proxy: Vec<HostPort>,
    /// `bindip`: the host in Via (and in Contact with `contactuser`), bound to when it is an
    /// address of this machine. An IPv6 address stands in brackets, ready to be written into a
    /// header. Default: the address that routes to the proxy.
    pub bindip: Option<String>,
    /// `bindport`: UDP port, 0 for any. Default 0.
    pub bindport: u16,
    /// `useragent`: the User-Agent header. Default `mwid/VERSION`.
    pub useragent: String,
    /// `contactuser`: makes Contact `<sip:contactuser@bindip>`. Default: the row's `local_contact`.
    pub contactuser: Option<String>,
    /// `vmexten`: the user in Message-Account. Default: the account's own.
    pub vmexten: Option<String>,
    /// `request_uri = contact | aor`. Default `contact`.
    pub request_uri: RequestUri,
    /// `route = auto | none`. Default `auto`.
    pub route: Route,
    /// `next_hop = proxy | socket_info | dialog`. Default `proxy`, or `dialog` for an agent without
    /// one.
    pub next_hop: NextHop,
    /// `cleanup = keep | delete`: what happens to a row whose phone says that it is gone. Default `keep`, with
    /// `[agent] listen` `delete`.
    pub cleanup: Cleanup,
    /// `auth_user`, `auth_password` (or `auth_password_file`, `auth_password_env`): answers a 407, and with
    /// `auth_realm` a 401.
    pub credentials: Option<Credentials>,
    /// `auth_realm`: the only realm that is answered. Default: that of any proxy (407), but of no
    /// phone (401), which anybody can be: whoever names the nonce can try passwords on the answer.
    pub auth_realm: Option<String>,
}

/// Where the bytes of a NOTIFY go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// To `proxy`.
    Proxy,
    /// To the row's `socket_info`: the proxy that holds the subscription.
    SocketInfo,
    /// Where the dialog itself leads: its first Route, or without one the phone (RFC 3261 §8.1.2).
    Dialog,
}

/// What happens to the row of a subscription that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleanup {
    /// It stays; mwid leaves it alone until it changes.
    Keep,
    /// It is deleted.
    Delete,
}

/// A user and a password: for digest authentication (RFC 8760), for Asterisk's manager.
#[derive(Clone, Debug, PartialEq)]
pub struct Credentials {
    /// `auth_user`, `user`
    pub user: String,
    /// The password, from the file, the environment or the ini.
    pub password: Secret,
}

/// `[spool]`: Asterisk's voicemail folders.
#[derive(Clone, Debug, PartialEq)]
pub struct Spool {
    /// `enabled`: `no` where messages are kept in ODBC or IMAP storage. Default `yes`.
    pub enabled: bool,
    /// `path`: the folder that holds the contexts. Default `/var/spool/asterisk/voicemail`.
    pub path: PathBuf,
    /// `watch = inotify | poll`. Default `inotify`; `poll` for NFS.
    pub watch: Watch,
    /// `poll`: seconds between two sweeps when polling. Default 10.
    pub poll: Duration,
    /// `rescan`: seconds between two full counts. Default 300.
    pub rescan: Duration,
    /// `scope = single | own | shared`. Default `single`: nothing of a cluster is used.
    pub scope: Scope,
}

/// Whether several mwid work on one database, and whose messages each of them sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One mwid.
    Single,
    /// Several, each with messages of its own: counts add up.
    Own,
    /// Several, all of which see the same messages.
    Shared,
}

/// How the spool is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// The kernel says what changed.
    Inotify,
    /// A sweep compares the times of the folders.
    Poll,
}

/// `[ami]`: Asterisk's manager, which tells of changed mailboxes.
#[derive(Clone, Debug, PartialEq)]
pub struct Ami {
    /// `host`: host and TCP port, 5038 unless given. Default: none, the manager is not asked.
    pub host: Option<HostPort>,
    /// `user`, `secret` (or `secret_file`, `secret_env`). There whenever `host` is.
    pub login: Option<Credentials>,
    /// `timeout`: seconds for a connection or an answer. Default 5.
    pub timeout: Duration,
    /// `rescan`: seconds between two full reads of one connection. Default 3600.
    pub rescan: Duration,
}

/// `[database]`: where `active_watchers` is.
#[derive(Clone, Debug, PartialEq)]
pub struct Database {
    /// `url`. Default `sqlite:/var/lib/mwid/dialogs.db`.
    pub url: DatabaseUrl,
    /// `table`. Default `active_watchers`. Letters, digits and `_` only.
    pub table: String,
    /// `find_by = presentity | watcher | either`. Default `presentity`.
    pub find_by: FindBy,
    /// `max_dialogs`: rows of one account that are worked on, newest first. Default 50.
    pub max_dialogs: u32,
    /// `timeout`: seconds for a connection or an answer of the server. Default 5.
    pub timeout: Duration,
    /// `connections`: at most this many at once. Default 4.
    pub connections: u32,
    /// `resync`: seconds between two full reads of the table, ten times as many with the triggers
    /// of `mwid sql`. Default 300.
    pub resync: Duration,
    /// `watch_poll`: milliseconds between two reads of the change table. Default 100.
    pub watch_poll: Duration,
}

/// `[cluster]`: several mwid on one database.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// `node`: 1 to 64 letters, digits, `.`, `-`, `_`. Default: the host name.
    pub node: Option<String>,
    /// `url`: where `mwid_nodes` and `mwid_counts` are. Default: `[database] url`.
    pub url: Option<DatabaseUrl>,
    /// `lease`: seconds after which a mwid that is not heard of counts as dead. Default 30.
    pub lease: Duration,
    /// `poll`: milliseconds between two looks at the tables. Default 200.
    pub poll: Duration,
}

/// Which column names the account of a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindBy {
    /// `presentity_uri`: whose mailbox is watched.
    Presentity,
    /// `watcher_username` and `watcher_domain`: who watches, as res_zonkey_mwi looked.
    Watcher,
    /// Either of them.
    Either,
}

impl FindBy {
    /// The accounts that a row is found by.
    #[must_use]
    pub fn accounts(
        self,
        presentity: Option<&str>,
        watcher_user: Option<&str>,
        watcher_domain: Option<&str>,
    ) -> Vec<Account> {
        let presentity = || presentity.and_then(|uri| uri.parse::<Account>().ok());
        let watcher = || Account::new(watcher_user?, watcher_domain?).ok();
        let mut accounts: Vec<Account> = match self {
            Self::Presentity => presentity().into_iter().collect(),
            Self::Watcher => watcher().into_iter().collect(),
            Self::Either => presentity().into_iter().chain(watcher()).collect(),
        };
        accounts.dedup();
        accounts
    }
}

/// `[contexts]` and `[mailboxes]`: which mailbox lights which account.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Accounts {
    /// `context = domain`. A context that is not named here is the domain itself.
    pub contexts: Vec<(String, String)>,
    /// `mailbox@context = account, account`: instead of the context's domain.
    pub mailboxes: Vec<(Mailbox, Vec<Account>)>,
}

impl Accounts {
    /// The same, to look up in.
    #[must_use]
    pub fn directory(&self) -> Directory {
        Directory {
            contexts: self.contexts.iter().cloned().collect(),
            mailboxes: self.mailboxes.iter().cloned().collect(),
        }
    }
}

/// `[delivery]` and `[delivery_contexts]`: by which ways phones come to know.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delivery {
    /// `use = notify, publish, …`: the ways of all contexts that are not named. Default `notify`.
    pub ways: Ways,
    /// `context = way, way`: the ways of a voicemail context.
    pub contexts: Vec<(String, Ways)>,
}

impl Delivery {
    /// Whether any account is told by this way.
    #[must_use]
    pub fn uses(&self, way: Way) -> bool {
        self.contexts.iter().any(|(_, ways)| ways.contains(way)) || self.ways.contains(way)
    }

    /// The ways of a voicemail context.
    #[must_use]
    pub fn of(&self, context: &str) -> Ways {
        let named = self.contexts.iter().find(|(name, _)| name == context);
        named.map_or(self.ways, |(_, ways)| *ways)
    }
}

/// `[publish]`: SIP PUBLISH (RFC 3903).
#[derive(Clone, Debug, PartialEq)]
pub struct Publish {
    /// `server`: where PUBLISHs go, in order of preference. Default: `[general] proxy`.
    pub server: Vec<HostPort>,
    /// `expires`: seconds that the presence server is to keep a state. Default 3600.
    pub expires: Duration,
}

impl Config {
    /// Where PUBLISHs go.
    #[must_use]
    pub fn publish_servers(&self) -> &[HostPort] {
        match self.publish.server.is_empty() {
            true => &self.general.proxy,
            false => &self.publish.server,
        }
    }

    /// Whom a way that publishes asks, passwords masked; `None` where it is not configured.
    #[must_use]
    pub fn server_of(&self, way: Way) -> Option<String> {
        match way {
            Way::Notify => None,
            Way::Publish => {
                let servers = self.publish_servers().iter().map(ToString::to_string);
                let servers = servers.collect::<Vec<_>>().join(", ");
                (!servers.is_empty()).then_some(servers)
            }
            Way::OpensipsMi => self.opensips_mi.url.as_ref().map(ToString::to_string),
            Way::KamailioRpc => self.kamailio_rpc.url.as_ref().map(ToString::to_string),
            Way::Sipx => self.sipx.publisher.as_ref().map(ToString::to_string),
        }
    }

    /// What makes a way's server another one than before: where it is, and for Kamailio what the
    /// publications are called and where its PUBLISHs go.
    #[must_use]
    pub fn server_identity(&self, way: Way) -> Option<String> {
        let server = self.server_of(way)?;
        let KamailioRpc { id, outbound_proxy, .. } = &self.kamailio_rpc;
        Some(match way {
            Way::KamailioRpc => {
                format!("{server} {id} {}", outbound_proxy.as_deref().unwrap_or_default())
            }
            _ => server,
        })
    }
}

/// `[agent]`: mwid's own presence agent, which phones subscribe to.
#[derive(Clone, Debug, PartialEq)]
pub struct Agent {
    /// `listen = udp:host:port`: the one SIP socket. Default: no agent.
    pub listen: Option<HostPort>,
    /// `trusted`: whose From is believed. Default: nobody's.
    pub trusted: Vec<IpNet>,
    /// `realm`: asks everybody else for a password. Default: everybody else is refused.
    pub realm: Option<String>,
    /// `min_expires`: seconds; what is shorter is refused. Default 60.
    pub min_expires: Duration,
    /// `expires`: seconds, for a phone that names none. Default 3600.
    pub expires: Duration,
    /// `max_expires`: seconds; what is longer is shortened. Default 7200.
    pub max_expires: Duration,
    /// `max_per_account`: subscriptions to one account. Default 50.
    pub max_per_account: u32,
    /// `max_subscriptions`: subscriptions in all. Default 100000.
    pub max_subscriptions: u32,
    /// `rate`: requests a second of one source that is not trusted, and of one subscriber behind one that is.
    /// Default 100.
    pub rate: u32,
    /// `subscribers`: database of the proxy's `subscriber` table. Default: none.
    pub subscribers: Option<DatabaseUrl>,
    /// `nonce_lifetime`: seconds that a challenge is good for. Default 300.
    pub nonce_lifetime: Duration,
    /// `own_box`: users that mean "my own mailbox". Default `*97`.
    pub own_box: Vec<String>,
}

/// `[users]` and `[watch]`: who may subscribe, and to what.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Watchers {
    /// `user@domain = password`
    pub users: Vec<(Account, Secret)>,
    /// `account = account, account`: who may watch a shared mailbox.
    pub shared: Vec<(Account, Vec<Account>)>,
}

/// `[timers]`
#[derive(Clone, Debug, PartialEq)]
pub struct Timers {
    /// `t1`: milliseconds, RFC 3261 §17.1.1.1. Default 500.
    pub t1: Duration,
    /// `t2`: milliseconds. Default 4000.
    pub t2: Duration,
    /// `t4`: milliseconds. Default 5000.
    pub t4: Duration,
    /// `min_interval`: milliseconds between two NOTIFYs of one dialog (RFC 3842 §3.11). Default 1000.
    pub min_interval: Duration,
    /// `settle`: milliseconds that a new or refreshed subscription waits for the presence server's
    /// own NOTIFY. Default 100.
    pub settle: Duration,
    /// `rate`: NOTIFYs a second in all. Default 500.
    pub rate: u32,
    /// `retry_min`: seconds before the first retry of a failed NOTIFY. Default 5.
    pub retry_min: Duration,
    /// `retry_max`: the longest pause between two retries, in seconds. Default 600.
    pub retry_max: Duration,
    /// `shutdown`: seconds that SIGTERM leaves to transactions in flight. Default 5.
    pub shutdown: Duration,
}

/// `[state]`: what mwid remembers by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// `path`: the ledger. Default `/var/lib/mwid/ledger.db`.
    pub path: PathBuf,
}

/// `[control]`: the sockets and folders that other processes reach mwid through.
#[derive(Clone, Debug, PartialEq)]
pub struct Control {
    /// `socket`: where `mwid status` and its siblings connect. Default `/run/mwid/control.sock`.
    pub socket: PathBuf,
    /// `externnotify`: where `mwid externnotify` sends. Default `/run/mwid/externnotify.sock`.
    pub externnotify: PathBuf,
    /// `drop`: where it leaves each call until the daemon has it safe. Default `/var/lib/mwid/drop`.
    pub drop: PathBuf,
}

/// `[webhook]`: an application that is told what phones do, and asked what they are to show.
#[derive(Clone, Debug, PartialEq)]
pub struct Webhook {
    /// `url`: where events are posted. Default: nowhere.
    pub url: Option<HttpUrl>,
    /// `token` (or `token_file`, `token_env`): what mwid shows as `Authorization: Bearer`.
    pub token: Option<Secret>,
    /// `timeout`: seconds for an answer. Default 10.
    pub timeout: Duration,
    /// `tries`: how often an event is posted that is not taken. Default 10.
    pub tries: u32,
    /// `ask_again`: seconds before an account that is still unknown is asked for again.
    /// Default 300.
    pub ask_again: Duration,
}

/// `[capture]`: what mirrors every SIP message.
#[derive(Clone, Debug, PartialEq)]
pub struct Capture {
    /// `hep`: where HOMER listens, UDP. Default: nowhere.
    pub hep: Option<HostPort>,
    /// `id`: by what HOMER tells mwid from others. Default 2001.
    pub id: u32,
    /// `password` (or `password_file`, `password_env`): the authentication key of each packet.
    pub password: Option<Secret>,
}

/// `[http]`: the HTTP door.
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// `listen`: addresses and TCP ports, none for no HTTP. Default none.
    pub listen: Vec<SocketAddr>,
    /// `token` (or `token_file`, `token_env`): what a client shows as `Authorization: Bearer`.
    /// Without one and without `read_token`, `listen` is loopback.
    pub token: Option<Secret>,
    /// `read_token` (or `read_token_file`, `read_token_env`): what somebody shows who only asks.
    /// Where it alone is set, nobody gives counts.
    pub read_token: Option<Secret>,
    /// `tls_cert`: PEM file with the certificate and those that it depends on. With `tls_key`.
    pub tls_cert: Option<PathBuf>,
    /// `tls_key`: PEM file with its private key.
    pub tls_key: Option<PathBuf>,
    /// `domains`: of the accounts that may be asked for. Default: those of `[contexts]` and
    /// `[mailboxes]`; any where these name none.
    pub domains: Vec<String>,
}

impl Config {
    /// The domains of the accounts that may be named over HTTP; `None`: any.
    #[must_use]
    pub fn http_domains(&self) -> Option<BTreeSet<String>> {
        let contexts = self.accounts.contexts.iter().map(|(_, domain)| domain.as_str());
        let accounts = self.accounts.mailboxes.iter().flat_map(|(_, accounts)| accounts);
        let of_accounts = contexts.chain(accounts.map(Account::domain));
        let domains: BTreeSet<String> = match self.http.domains.is_empty() {
            true => of_accounts.map(str::to_owned).collect(),
            false => self.http.domains.iter().cloned().collect(),
        };
        (!domains.is_empty()).then_some(domains)
    }
}

impl General {
    /// Whether the socket speaks IPv6: as `bindip`, or without one as the first proxy.
    #[must_use]
    pub fn wants_ipv6(&self) -> bool {
        let proxy = || self.proxy.first().and_then(|proxy| proxy.host.parse().ok());
        self.bind_address().or_else(proxy).is_some_and(|address| address.is_ipv6())
    }

    /// `bindip` when it is an address and not a name.
    #[must_use]
    pub fn bind_address(&self) -> Option<IpAddr> {
        self.bindip.as_deref().and_then(|host| host.trim_matches(['[', ']']).parse().ok())
    }
}
