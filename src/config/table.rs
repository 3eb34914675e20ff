//! The table of all keys. Everything that knows keys reads this one: the reader and its errors,
//! the defaults, the effective configuration, the sample file and the tests.
//!
//! A row is
//!
//! ```text
//! field: codec, "default as text" [like "an example, where the default is to have none"], "one line";
//! ```
//!
//! A row `key => how it is shown, …` has no field of its own: `secrets` makes something of it.

use mwid_core::mailbox::{Account, Mailbox};
use serde_json::Value as Json;

use super::secret::MASK;
use super::secrets::{
    of_ami, of_capture, of_cluster, of_database, of_door, of_general, of_readers, of_subscribers,
    of_webhook,
};
use super::value::{
    AbsolutePath, Address, AnyCase, Codec, Flag, List, Listen, ListenUdp, Network, OneOf, Optional,
    SocketPath, Text, ValueError, WayList, account, bind_host, header, itself, milliseconds,
    node_name, number, realm, seconds, sip_domain, sip_uri, sip_user, table_name, user_agent,
};
use super::{
    Agent, Ami, Capture, Cleanup, Cluster, Config, Control, Database, FindBy, General, Http,
    KamailioRpc, NextHop, OpensipsMi, Origin, Publish, RequestUri, Route, RpcFormat, Scope, Secret,
    Sipx, SipxBody, SipxMethod, Spool, State, Timers, Watch, Webhook,
};

/// All sections, in the order of the sample file.
pub(super) static SECTIONS: &[Section] = &[
    GENERAL,
    SPOOL,
    AMI,
    DATABASE,
    CLUSTER,
    CONTEXTS,
    MAILBOXES,
    DELIVERY,
    DELIVERY_CONTEXTS,
    PUBLISH,
    AGENT,
    USERS,
    WATCH,
    OPENSIPS_MI,
    KAMAILIO_RPC,
    SIPX,
    WEBHOOK,
    TIMERS,
    STATE,
    CONTROL,
    HTTP,
    CAPTURE,
];

/// A section of the file.
pub(super) struct Section {
    pub(super) name: &'static str,
    /// A few lines for the sample file.
    pub(super) about: &'static str,
    pub(super) body: Body,
}

/// What a section holds.
pub(super) enum Body {
    /// Keys that are known beforehand.
    Keys(&'static [Key]),
    /// Names that the operator chooses.
    Names(Names),
}

/// Reads a value into its field.
type Set = fn(&mut Config, &str) -> Result<(), ValueError>;

/// A known key: one row.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) default: &'static str,
    pub(super) example: &'static str,
    pub(super) about: &'static str,
    /// None for a row without a field.
    pub(super) set: Option<Set>,
    pub(super) show: fn(&Config) -> Json,
}

/// A section whose keys are names.
pub(super) struct Names {
    pub(super) examples: &'static [(&'static str, &'static str)],
    /// The one spelling of a name by which duplicates are found.
    pub(super) canonical: fn(&str) -> Result<String, ValueError>,
    pub(super) add: fn(&mut Config, &str, &str) -> Result<(), ValueError>,
    pub(super) show: fn(&Config) -> Vec<(String, Json)>,
}

macro_rules! section {
    ($table:ident = $part:ident: $type:ident, $about:literal {$($rest:tt)*} $($more:tt)*) => {
        section! { $table = $part as (stringify!($part)): $type, $about {$($rest)*} $($more)* }
    };
    ($table:ident = $part:ident as $name:tt: $type:ident, $about:literal {
        $($key:ident $(: $codec:expr)? $(=> $show:expr)?, $default:literal $(like $example:literal)?, $doc:literal;)*
    } $(and $($other:ident = $value:expr),+)?) => {
        const $table: Section = Section {
            name: $name,
            about: $about,
            body: Body::Keys(&[$(Key {
                name: stringify!($key),
                default: $default,
                example: concat!($($example)?),
                about: $doc,
                set: section!(@set $part $key $($codec)?),
                show: $(|config| $codec.show(&config.$part.$key))? $($show)?,
            }),*]),
        };

        /// Every key at its default.
        impl Default for $type {
            fn default() -> Self {
                Self {
                    $($($key: $codec.parse($default).expect("a default of the table is valid"),)?)*
                    $($($other: $value,)+)?
                }
            }
        }
    };
    (@set $part:ident $key:ident) => { None };
    (@set $part:ident $key:ident $codec:expr) => {
        Some(|config, text| $codec.parse(text).map(|value| config.$part.$key = value))
    };
}

section! { GENERAL = general: General, "The SIP side." {
    proxy: List(itself()), "" like "proxy.example.com:5060",
        "Required. host[:port], port 5060 unless given; several with commas are tried in turn.";
    bindip: Optional(Text(bind_host)), "" like "192.0.2.10",
        "Address of this machine in Via. Default: the one that routes to the proxy.";
    bindport: number(0, 65535), "0", "UDP port. 0: any.";
    useragent: Text(user_agent), "" like "Asterisk Media Server01",
        "User-Agent header. Default: mwid and its version.";
    contactuser: Optional(Text(sip_user)), "" like "voicemail-user",
        "Contact is <sip:contactuser@bindip>. Default, and better: the presence server's own Contact.";
    vmexten: Optional(Text(sip_user)), "" like "*97",
        "User in Message-Account, what the phone dials. Default: the account's own.";
    request_uri: OneOf(&[("contact", RequestUri::Contact), ("aor", RequestUri::Aor)]), "contact",
        "contact: the phone itself. aor: the account, for a proxy script that does the lookup.";
    route: OneOf(&[("auto", Route::Auto), ("none", Route::None)]), "auto",
        "auto: Route headers through the proxy. none: no Route, as res_zonkey_mwi did it.";
    next_hop: OneOf(&[("proxy", NextHop::Proxy), ("socket_info", NextHop::SocketInfo), ("dialog", NextHop::Dialog)]), "proxy",
        "socket_info: to the proxy that holds the subscription. dialog: where it came from; [agent] needs no proxy then.";
    cleanup: OneOf(&[("keep", Cleanup::Keep), ("delete", Cleanup::Delete)]), "keep",
        "delete: remove the row of a subscription that its phone no longer knows; [agent] does. keep: leave it.";
    auth_user => |config| shown(config.general.credentials.as_ref().map(|it| it.user.as_str())),
        "" like "mwid", "User for a proxy that asks for digest credentials. Default: none.";
    auth_password => |config| written(of_general(config)), "" like "secret",
        "Its password; or name a file or an environment variable that holds it:";
    auth_password_file => |config| file(of_general(config)), "" like "/etc/mwid/sip.password",
        "File with the password of auth_user.";
    auth_password_env => |config| variable(of_general(config)), "" like "MWID_SIP_PASSWORD",
        "Environment variable with the password of auth_user.";
    auth_realm: Optional(Text(header)), "" like "example.com",
        "The only realm that auth_user is for, of a 407 or a 401. Default: any 407, and no 401.";
} and credentials = None }

section! { SPOOL = spool: Spool, "Asterisk's voicemail folders." {
    enabled: Flag, "yes", "no: messages are in ODBC or IMAP storage, counts come by externnotify and [ami].";
    path: AbsolutePath, "/var/spool/asterisk/voicemail", "The folder that holds the contexts.";
    watch: OneOf(&[("inotify", Watch::Inotify), ("poll", Watch::Poll)]), "inotify",
        "inotify: the kernel says what changed. poll: compare folder times (NFS).";
    poll: seconds(1, 3600), "10", "Seconds between two sweeps when polling.";
    rescan: seconds(1, 86_400), "300", "Seconds between two full counts.";
    scope: OneOf(&[("single", Scope::Single), ("own", Scope::Own), ("shared", Scope::Shared)]), "single",
        "single: one mwid. own: several, each with its own messages. shared: several, all see the same.";
} }

section! { AMI = ami: Ami, "Asterisk's manager: tells at once of every change of a mailbox, also without a spool." {
    host: Optional(Address { port: 5038 }), "" like "127.0.0.1:5038",
        "host[:port], port 5038 unless given. Default: the manager is not asked.";
    user => |config| shown(config.ami.login.as_ref().map(|it| it.user.as_str())),
        "" like "mwid", "User of manager.conf, with read = call and write = reporting.";
    secret => |config| written(of_ami(config)), "" like "secret",
        "Its secret; or name a file or an environment variable that holds it:";
    secret_file => |config| file(of_ami(config)), "" like "/etc/mwid/ami.secret",
        "File with the secret of user.";
    secret_env => |config| variable(of_ami(config)), "" like "MWID_AMI_SECRET",
        "Environment variable with the secret of user.";
    timeout: seconds(1, 300), "5", "Seconds for a connection or an answer of the manager.";
    rescan: seconds(1, 86_400), "3600", "Seconds between two full reads of all mailboxes, which are work for Asterisk.";
} and login = None }

section! { DATABASE = database: Database,
    "Where active_watchers is: the database of OpenSIPS's or Kamailio's presence server." {
    url: itself(), "sqlite:/var/lib/mwid/dialogs.db",
        "mysql://user[:password]@host[:port]/database[?socket=/path], postgres://…, sqlite:/path. %40 is @.";
    password_file => |config| file(of_database(config)), "" like "/etc/mwid/db.password",
        "File with the password of url.";
    password_env => |config| variable(of_database(config)), "" like "MWID_DB_PASSWORD",
        "Environment variable with the password of url.";
    table: Text(table_name), "active_watchers", "Name of the table.";
    find_by: OneOf(&[
        ("presentity", FindBy::Presentity), ("watcher", FindBy::Watcher), ("either", FindBy::Either),
    ]), "presentity", "presentity: whose mailbox is watched. watcher: who watches. either: both.";
    max_dialogs: number(1, 10_000), "50", "At most this many subscriptions of one account, newest first.";
    timeout: seconds(1, 300), "5", "Seconds for a connection or an answer of the server.";
    connections: number(1, 100), "4", "At most this many connections, and one more on PostgreSQL.";
    resync: seconds(1, 86_400), "300",
        "Seconds between two full reads of the table; ten times as many with the triggers of mwid sql.";
    watch_poll: milliseconds(10, 60_000), "100",
        "Milliseconds between two looks for new subscriptions (MySQL and SQLite, with the triggers).";
} }

section! { CLUSTER = cluster: Cluster,
    "Several mwid on one database, with [spool] scope = own or shared; see mwid sql for its tables." {
    node: Optional(Text(node_name)), "" like "vm1",
        "Name of this mwid, another on each. Default: the host name.";
    url: Optional(itself()), "" like "mysql://mwid:secret@db.example.com/mwid",
        "Database of the tables mwid_nodes and mwid_counts. Default: that of [database].";
    password_file => |config| file(of_cluster(config)), "" like "/etc/mwid/cluster.password",
        "File with the password of url.";
    password_env => |config| variable(of_cluster(config)), "" like "MWID_CLUSTER_PASSWORD",
        "Environment variable with the password of url.";
    lease: seconds(1, 3600), "30", "Seconds after which the accounts of a silent mwid are taken over.";
    poll: milliseconds(10, 60_000), "200", "Milliseconds between two looks at what the others count.";
} }

const CONTEXTS: Section = Section {
    name: "contexts",
    about: "Voicemail context = SIP domain. A context that is not named here is the domain itself.",
    body: Body::Names(Names {
        examples: &[("default", "example.com")],
        canonical: |name| Ok(Mailbox::new("0", name)?.context().to_owned()),
        add: |config, context, domain| {
            let domain = Account::new("0", domain)?.domain().to_owned();
            config.accounts.contexts.push((context.to_owned(), domain));
            Ok(())
        },
        show: |config| {
            let entries = config.accounts.contexts.iter();
            entries.map(|(name, domain)| (name.clone(), Json::from(domain.as_str()))).collect()
        },
    }),
};

const MAILBOXES: Section = Section {
    name: "mailboxes",
    about: "mailbox@context = the accounts that it lights, instead of mailbox@domain.",
    body: Body::Names(Names {
        examples: &[("202@default", "sip:202@example.com, sip:203@example.com")],
        canonical: |name| Ok(Mailbox::parse(name)?.to_string()),
        add: |config, name, accounts| {
            let accounts = List(itself::<Account>()).parse(accounts)?;
            config.accounts.mailboxes.push((Mailbox::parse(name)?, accounts));
            Ok(())
        },
        show: |config| {
            let accounts = List(itself::<Account>());
            let entries = config.accounts.mailboxes.iter();
            entries.map(|(mailbox, to)| (mailbox.to_string(), accounts.show(to))).collect()
        },
    }),
};

/// By hand: `use` can be no field.
const DELIVERY: Section = Section {
    name: "delivery",
    about: "By which ways phones come to know of their messages.",
    body: Body::Keys(&[Key {
        name: "use",
        default: "notify",
        example: "",
        about: "notify: a NOTIFY in each subscription of [database]. publish: SIP PUBLISH to the presence server.",
        set: Some(|config, text| WayList.parse(text).map(|ways| config.delivery.ways = ways)),
        show: |config| WayList.show(&config.delivery.ways),
    }]),
};

const DELIVERY_CONTEXTS: Section = Section {
    name: "delivery_contexts",
    about: "Voicemail context = its ways. A context that is not named here has those of [delivery].",
    body: Body::Names(Names {
        examples: &[("default", "publish")],
        canonical: |name| Ok(Mailbox::new("0", name)?.context().to_owned()),
        add: |config, context, ways| {
            config.delivery.contexts.push((context.to_owned(), WayList.parse(ways)?));
            Ok(())
        },
        show: |config| {
            let entries = config.delivery.contexts.iter();
            entries.map(|(name, ways)| (name.clone(), WayList.show(ways))).collect()
        },
    }),
};

section! { PUBLISH = publish: Publish, "SIP PUBLISH (RFC 3903) to a presence server." {
    server: List(itself()), "" like "presence.example.com:5060",
        "host[:port]; several with commas are tried in turn. Default: proxy of [general].";
    expires: seconds(1, 31_536_000), "3600", "Seconds that the presence server is to keep a state; renewed before.";
} }

section! { OPENSIPS_MI = opensips_mi as ("opensips-mi"): OpensipsMi,
    "OpenSIPS that publishes for mwid by pua_publish of its management interface (module pua_mi)." {
    url: Optional(itself()), "" like "http://127.0.0.1:8888/mi",
        "http://host:8888/mi (OpenSIPS 3), or fifo:/path, udp:host:port, unixgram:/path (1 and 2).";
    expires: seconds(1, 31_536_000), "3600", "Seconds that the presence server is to keep a state; renewed before.";
    timeout: seconds(1, 300), "10", "Seconds for an answer.";
    extra_headers: itself(), "" like "P-Flags: 0 | X-Site: 7",
        "Headers that OpenSIPS writes into its PUBLISH, with | between them.";
    reply_folder: AbsolutePath, "/run/mwid",
        "fifo and unixgram: where mwid makes what OpenSIPS replies to; its reply_dir (etc/opensips/publish.cfg).";
} }

section! { KAMAILIO_RPC = kamailio_rpc as ("kamailio-rpc"): KamailioRpc,
    "Kamailio that publishes for mwid by pua.publish of its RPC (module pua_rpc)." {
    url: Optional(itself()), "" like "http://127.0.0.1:5060/RPC",
        "Where xhttp and jsonrpcs answer, or xmlrpc.";
    format: OneOf(&[("json", RpcFormat::Json), ("xml", RpcFormat::Xml)]), "json",
        "json: JSON-RPC (jsonrpcs). xml: XML-RPC (xmlrpc).";
    expires: seconds(1, 31_536_000), "3600", "Seconds that the presence server is to keep a state; renewed before.";
    timeout: seconds(1, 300), "10", "Seconds for an answer.";
    id: Text(node_name), "mwid", "Name of mwid's states; the same on all mwid of one platform.";
    outbound_proxy: Optional(Text(sip_uri)), "" like "sip:127.0.0.1:5060",
        "Where Kamailio sends the PUBLISH. Default: as DNS has it for the account's domain.";
    extra_headers: itself(), "" like "P-Flags: 0 | X-Site: 7",
        "Headers that Kamailio writes into its PUBLISH, with | between them.";
} }

section! { SIPX = sipx: Sipx,
    "sipX: a sipXpublisher that is told of each change, a voicemail system that is asked." {
    publisher: Optional(itself()), "" like "http://sipx.example.com:8100/cgi/StatusEvent.cgi",
        "StatusEvent.cgi of the sipXpublisher.";
    method: OneOf(&[("get", SipxMethod::Get), ("post", SipxMethod::Post)]), "get",
        "get: a GET with a body, as sipX has it. post: the same as a POST.";
    body: OneOf(&[("rfc3842", SipxBody::Rfc3842), ("2.4", SipxBody::V24)]), "rfc3842",
        "rfc3842: with Message-Account. 2.4: without, for SIPxchange 2.4 and earlier.";
    voicemail: Optional(itself()), "" like "http://vm.example.com/cgi-bin/voicemail/mwi.cgi",
        "Asked for the counts of an account that has a subscription and that no source knows.";
    ask_again: seconds(1, 86_400), "300", "Seconds before an account that is still unknown is asked for again.";
    timeout: seconds(1, 300), "10", "Seconds for an answer.";
} }

section! { WEBHOOK = webhook: Webhook,
    "An application that is told of subscriptions and NOTIFYs, and asked for counts: docs/http.md." {
    url: Optional(itself()), "" like "http://127.0.0.1:3000/mwi", "Where events are posted, as JSON. Default: nowhere.";
    token => |config| written(of_webhook(config)), "" like "secret",
        "What mwid shows there: Authorization: Bearer secret. Or name where it is:";
    token_file => |config| file(of_webhook(config)), "" like "/etc/mwid/webhook.token",
        "File with the token.";
    token_env => |config| variable(of_webhook(config)), "" like "MWID_WEBHOOK_TOKEN",
        "Environment variable with the token.";
    timeout: seconds(1, 300), "10", "Seconds for an answer.";
    tries: number(1, 1000), "10", "How often an event is posted that is not taken, with growing pauses.";
    ask_again: seconds(1, 86_400), "300", "Seconds before an account that is still unknown is asked for again.";
} and token = None }

section! { AGENT = agent: Agent,
    "mwid's own presence agent: answers phones that subscribe, where there is no presence server." {
    listen: Optional(ListenUdp), "" like "udp:192.0.2.10:5070",
        "Address and port of the one SIP socket, as phones and proxies reach it. Default: no agent.";
    trusted: List(Network), "" like "192.0.2.1, 198.51.100.0/24",
        "Proxies that know whom they forward for: addresses or networks. Nobody else may come near mwid as them.";
    realm: Optional(Text(realm)), "" like "example.com",
        "Asks everybody else for a password, in this realm. Default: everybody else is refused.";
    min_expires: seconds(1, 3_600), "60", "Seconds, an hour at most. A shorter subscription is refused.";
    expires: seconds(1, 604_800), "3600", "Seconds of a subscription that does not say how long.";
    max_expires: seconds(1, 604_800), "7200", "Seconds. A longer subscription is shortened.";
    max_per_account: number(1, 10_000), "50", "Subscriptions to one account, max_dialogs of [database] at most.";
    max_subscriptions: number(1, 10_000_000), "100000", "Subscriptions in all.";
    rate: number(1, 1_000_000), "100", "Requests a second of one source that is not trusted, and of one subscriber behind a trusted one.";
    subscribers: Optional(itself()), "" like "mysql://mwid:secret@db.example.com/kamailio",
        "Database of the proxy, whose table subscriber knows users and their ha1.";
    subscribers_password_file => |config| file(of_subscribers(config)), "" like "/etc/mwid/subscribers.password",
        "File with the password of subscribers.";
    subscribers_password_env => |config| variable(of_subscribers(config)), "" like "MWID_SUBSCRIBERS_PASSWORD",
        "Environment variable with the password of subscribers.";
    nonce_lifetime: seconds(1, 86_400), "300", "Seconds that a challenge can be answered.";
    own_box: List(Text(sip_user)), "*97", "Users that everybody may watch, and that mean one's own mailbox.";
} }

const USERS: Section = Section {
    name: "users",
    about: "user@domain = password, for those who are in no table subscriber. Needs realm in [agent].",
    body: Body::Names(Names {
        examples: &[("202@example.com", "secret")],
        canonical: |name| Ok(account(name)?.to_string()),
        add: |config, name, clear| {
            let secret = match clear {
                "" => return Err(ValueError::NoPassword),
                MASK => return Err(ValueError::Mask),
                _ => Secret::new(clear),
            };
            config.watchers.users.push((account(name)?, secret));
            Ok(())
        },
        show: |config| {
            let entries = config.watchers.users.iter();
            entries.map(|(user, _)| (user.to_string(), Json::from(MASK))).collect()
        },
    }),
};

const WATCH: Section = Section {
    name: "watch",
    about: "Shared mailbox = the subscribers that may watch it beside their own.",
    body: Body::Names(Names {
        examples: &[("sales@example.com", "sip:202@example.com, sip:203@example.com")],
        canonical: |name| Ok(account(name)?.to_string()),
        add: |config, name, watchers| {
            let watchers = List(AnyCase).parse(watchers)?;
            config.watchers.shared.push((account(name)?, watchers));
            Ok(())
        },
        show: |config| {
            let entries = config.watchers.shared.iter();
            entries.map(|(shared, by)| (shared.to_string(), List(AnyCase).show(by))).collect()
        },
    }),
};

section! { TIMERS = timers: Timers, "Times and rates." {
    t1: milliseconds(1, 10_000), "500", "Milliseconds, RFC 3261: first retransmission; 64 times this is the end.";
    t2: milliseconds(1, 60_000), "4000", "Milliseconds, RFC 3261: the longest pause between retransmissions.";
    t4: milliseconds(1, 60_000), "5000", "Milliseconds, RFC 3261: how long a late copy of an answer is absorbed.";
    min_interval: milliseconds(0, 60_000), "1000", "Milliseconds between two NOTIFYs of one subscription.";
    settle: milliseconds(0, 10_000), "100",
        "Milliseconds that a new subscription waits, for the presence server's own NOTIFY to be first.";
    rate: number(1, 100_000), "500", "NOTIFYs a second in all.";
    retry_min: seconds(1, 3600), "5", "Seconds before the first retry of a failed NOTIFY.";
    retry_max: seconds(1, 86_400), "600", "Seconds, the longest pause between two retries.";
    shutdown: seconds(0, 300), "5", "Seconds that a shutdown leaves to NOTIFYs in flight.";
} }

section! { STATE = state: State, "What mwid remembers by itself." {
    path: AbsolutePath, "/var/lib/mwid/ledger.db",
        "The ledger. Without it mwid tells every phone once more after a restart.";
} }

section! { CONTROL = control: Control, "Where other processes reach mwid." {
    socket: SocketPath, "/run/mwid/control.sock", "Socket of mwid status, show, notify, debug, forget, reload.";
    externnotify: SocketPath, "/run/mwid/externnotify.sock", "Socket of mwid-externnotify.";
    drop: AbsolutePath, "/var/lib/mwid/drop", "Where mwid-externnotify leaves each call until mwid has it safe.";
} }

section! { HTTP = http: Http, "HTTP, for voicemail systems and scripts that say or ask what waits: docs/http.md." {
    listen: List(Listen), "" like "127.0.0.1:8080",
        "Address:port, several with commas. Default: no HTTP. Without a token only loopback.";
    token => |config| written(of_door(config)), "" like "secret",
        "What clients must show: Authorization: Bearer secret. Or name where it is:";
    token_file => |config| file(of_door(config)), "" like "/etc/mwid/http.token",
        "File with the token.";
    token_env => |config| variable(of_door(config)), "" like "MWID_HTTP_TOKEN",
        "Environment variable with the token.";
    read_token => |config| written(of_readers(config)), "" like "other",
        "What clients may show that only ask, as Prometheus and the status page do. Without token nobody gives counts then.";
    read_token_file => |config| file(of_readers(config)), "" like "/etc/mwid/http.read",
        "File with the token.";
    read_token_env => |config| variable(of_readers(config)), "" like "MWID_HTTP_READ_TOKEN",
        "Environment variable with the token.";
    tls_cert: Optional(AbsolutePath), "" like "/etc/mwid/http.crt",
        "PEM file with the certificate and its chain: HTTPS only. Read again by mwid reload.";
    tls_key: Optional(AbsolutePath), "" like "/etc/mwid/http.key", "PEM file with its private key.";
    domains: List(Text(sip_domain)), "" like "example.com",
        "Only accounts of these domains. Default: the domains of [contexts] and [mailboxes], or any.";
} and token = None, read_token = None }

section! { CAPTURE = capture: Capture, "Mirrors every SIP message, both ways, to HOMER (HEP version 3 over UDP)." {
    hep: Optional(Address { port: 9060 }), "" like "homer.example.com:9060", "host[:port], port 9060 unless given. Default: nowhere.";
    id: number(0, 4_294_967_295), "2001", "By what HOMER tells mwid from others that capture.";
    password => |config| written(of_capture(config)), "" like "secret",
        "What HOMER wants to see, in clear; or name a file or an environment variable that holds it:";
    password_file => |config| file(of_capture(config)), "" like "/etc/mwid/hep.password",
        "File with the password.";
    password_env => |config| variable(of_capture(config)), "" like "MWID_HEP_PASSWORD",
        "Environment variable with the password.";
} and password = None }

fn shown(text: Option<&str>) -> Json {
    text.map_or(Json::Null, Json::from)
}

fn written(secret: Option<&Secret>) -> Json {
    shown(secret.filter(|secret| *secret.origin() == Origin::Written).map(|_| MASK))
}

fn file(secret: Option<&Secret>) -> Json {
    match secret.map(Secret::origin) {
        Some(Origin::File(path)) => AbsolutePath.show(path),
        _ => Json::Null,
    }
}

fn variable(secret: Option<&Secret>) -> Json {
    match secret.map(Secret::origin) {
        Some(Origin::Environment(name)) => Json::from(name.as_str()),
        _ => Json::Null,
    }
}
