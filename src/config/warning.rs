//! What a configuration may say, but an operator should know the price of.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mwid_core::mailbox::Mailbox;
use mwid_core::publication::Way;
use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};
use thiserror::Error;

use super::parse::Given;
use super::secrets::{
    of_ami, of_capture, of_cluster, of_database, of_door, of_general, of_http, of_readers,
    of_subscribers, of_webhook,
};
use super::{Config, Control, FindBy, MiUrl, Origin, RequestUri, Scope, Secret, host};

/// Asterisk keeps 160 characters for the externnotify command; context, mailbox and counts need
/// about 40 of them.
const MAX_COMMAND: usize = 120;

/// The key of each way that says where its server is.
const SERVERS: [(Way, &str, &str); 4] = [
    (Way::Publish, "publish", "server"),
    (Way::OpensipsMi, "opensips-mi", "url"),
    (Way::KamailioRpc, "kamailio-rpc", "url"),
    (Way::Sipx, "sipx", "publisher"),
];

/// One warning.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{kind}")]
pub struct Warning {
    /// The line that it is about, counted from 1.
    pub line: Option<usize>,
    /// What it says.
    pub kind: WarningKind,
}

/// What deserves a second look.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WarningKind {
    /// A `;` glued to a value.
    #[error(
        "[{section}] {key}: the \";\" is part of the value; Asterisk would end the value there. Write \\; to keep it, or a space in front of a comment"
    )]
    GluedSemicolon {
        /// The section.
        section: &'static str,
        /// The key.
        key: String,
    },
    /// `bindip` is this machine itself, a proxy is not.
    #[error(
        "[general] bindip = {bindip} is not reachable from the proxy {proxy}; write this machine's address in its network, or remove the line"
    )]
    LoopbackBindIp {
        /// The address.
        bindip: String,
        /// The first proxy elsewhere.
        proxy: String,
    },
    /// `bindip` is `0.0.0.0` or `[::]`.
    #[error(
        "[general] bindip = {bindip} is no address that can be answered; remove the line, mwid then takes the address that routes to the proxy"
    )]
    UnspecifiedBindIp {
        /// The address.
        bindip: String,
    },
    /// `contactuser` is set.
    #[error(
        "[general] contactuser: a NOTIFY moves the phone's target (RFC 6665), so each phone will send its next SUBSCRIBE to mwid's Contact and not to the presence server; remove the line unless the proxy script rewrites Contact"
    )]
    ContactUser,
    /// `request_uri = aor`
    #[error(
        "[general] request_uri = aor: the proxy script must call lookup(\"location\") for these NOTIFYs; a stock script answers 404"
    )]
    RequestUriAor,
    /// `[database] url` is not set.
    #[error(
        "[database] url is not set: mwid reads its own file {url}, which is empty unless a presence server writes active_watchers there; write the address of the presence server's database"
    )]
    DefaultDatabase {
        /// The default.
        url: String,
    },
    /// Another column than the one that both servers index.
    #[error(
        "[database] find_by = {find_by} searches watcher_username, which neither OpenSIPS nor Kamailio indexes: without an index every look-up reads the whole table; see the folder sql"
    )]
    FindByNeedsIndex {
        /// The value.
        find_by: &'static str,
    },
    /// A mailbox that lights nothing.
    #[error("[mailboxes] {mailbox} lights no account; its messages show on no phone")]
    MailboxWithoutAccount {
        /// The mailbox.
        mailbox: Mailbox,
    },
    /// The helper must be told where mwid listens.
    #[error("[control] is not at its defaults; write in voicemail.conf: externnotify = {command}")]
    ExternNotify {
        /// The command.
        command: String,
    },
    /// The helper's command is too long for Asterisk.
    #[error(
        "[control] the externnotify command has {length} characters; with its arguments Asterisk cuts it at 160, so choose paths that make it shorter than {MAX_COMMAND}"
    )]
    LongExternNotify {
        /// The length of the command.
        length: usize,
    },
    /// Nodes give CSeqs by the clock, in seconds.
    #[error(
        "[timers] min_interval = {millis} with [cluster]: a phone that is told more than once a second for long outruns the seconds of the database's clock, by which a node that takes over chooses its first CSeq; write 1000 or more"
    )]
    QuickCluster {
        /// `min_interval`, in milliseconds.
        millis: u128,
    },
    /// A way that is configured and not used.
    #[error(
        "[{section}] {key} is set, and no account is told by {way}; name {way} in [delivery] use, or remove the line"
    )]
    UnusedWay {
        /// Its section.
        section: &'static str,
        /// The key that says where its server is.
        key: &'static str,
        /// The way.
        way: Way,
    },
    /// `[sipx] voicemail` without NOTIFY.
    #[error(
        "[sipx] voicemail is asked for accounts whose subscription mwid sees in the database, and without notify in [delivery] use it looks at none: nobody is asked"
    )]
    NobodyAsked,
    /// Where OpenSIPS replies, nothing can be made.
    #[error(
        "[opensips-mi] reply_folder = {}: {error}; mwid must be able to make there what OpenSIPS replies to (etc/mwid.service makes /run/mwid)", path.display()
    )]
    ReplyFolder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        error: Errno,
    },
    /// A token that everybody on the way can read.
    #[error(
        "[http] {address} without TLS: everybody on the way can read the token; set tls_cert and tls_key, or put a proxy with TLS in front of 127.0.0.1"
    )]
    ClearToken {
        /// The address that is not loopback.
        address: SocketAddr,
    },
    /// A file with a password that everybody may read.
    #[error("{} holds {what} and everybody may read it; chmod 0640 it", path.display())]
    WorldReadable {
        /// The file.
        path: PathBuf,
        /// A password or a private key.
        what: &'static str,
    },
}

/// The warnings of a configuration; `glued` are the lines with a glued `;`.
pub(super) fn of(config: &Config, given: &Given, glued: &[usize]) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (section, key, line) in given.places() {
        // The lines were written down in order.
        if glued.binary_search(&line).is_ok() {
            let kind = WarningKind::GluedSemicolon { section, key: key.to_owned() };
            warnings.push(Warning { line: Some(line), kind });
        }
    }
    let mut push = |section, key: &str, kind| {
        warnings.push(Warning { line: given.line(section, key), kind });
    };
    if let Some(kind) = bindip(config) {
        push("general", "bindip", kind);
    }
    if config.general.contactuser.is_some() {
        push("general", "contactuser", WarningKind::ContactUser);
    }
    if config.general.request_uri == RequestUri::Aor {
        push("general", "request_uri", WarningKind::RequestUriAor);
    }
    let wants_database = config.delivery.uses(Way::Notify) && config.agent.listen.is_none();
    if wants_database && given.get("database", "url").is_none() {
        let url = config.database.url.to_string();
        push("database", "url", WarningKind::DefaultDatabase { url });
    }
    let find_by = match config.database.find_by {
        FindBy::Presentity => None,
        FindBy::Watcher => Some("watcher"),
        FindBy::Either => Some("either"),
    };
    if let Some(find_by) = find_by {
        push("database", "find_by", WarningKind::FindByNeedsIndex { find_by });
    }
    let interval = config.timers.min_interval;
    if config.spool.scope != Scope::Single && interval < Duration::from_secs(1) {
        let kind = WarningKind::QuickCluster { millis: interval.as_millis() };
        push("timers", "min_interval", kind);
    }
    for (section, key, kind) in without_effect(config, given) {
        push(section, key, kind);
    }
    for (mailbox, _) in config.accounts.mailboxes.iter().filter(|(_, to)| to.is_empty()) {
        let kind = WarningKind::MailboxWithoutAccount { mailbox: mailbox.clone() };
        push("mailboxes", &mailbox.to_string(), kind);
    }
    let outside = config.http.listen.iter().find(|address| !address.ip().is_loopback());
    if let Some(&address) = outside.filter(|_| config.http.tls_cert.is_none()) {
        push("http", "listen", WarningKind::ClearToken { address });
    }
    if let Some(command) = externnotify(&config.control) {
        let length = command.len();
        push("control", "externnotify", WarningKind::ExternNotify { command });
        if length >= MAX_COMMAND {
            push("control", "externnotify", WarningKind::LongExternNotify { length });
        }
    }
    warnings.sort_by_key(|warning| warning.line.unwrap_or(usize::MAX));
    warnings
}

/// What is said of ways that nobody is told by.
fn without_effect(
    config: &Config,
    given: &Given,
) -> Vec<(&'static str, &'static str, WarningKind)> {
    let unused = SERVERS.into_iter().filter(|&(way, section, key)| {
        given.get(section, key).is_some() && !config.delivery.uses(way)
    });
    let unused = unused
        .map(|(way, section, key)| (section, key, WarningKind::UnusedWay { section, key, way }));
    let nobody_asked = config.sipx.voicemail.is_some() && !config.delivery.uses(Way::Notify);
    let sipx = nobody_asked.then_some(("sipx", "voicemail", WarningKind::NobodyAsked));
    unused.chain(sipx).collect()
}

fn bindip(config: &Config) -> Option<WarningKind> {
    let bindip = config.general.bindip.clone()?;
    if config.general.bind_address().is_some_and(|address| address.is_unspecified()) {
        return Some(WarningKind::UnspecifiedBindIp { bindip });
    }
    let elsewhere = config.general.proxy.iter().find(|proxy| !host::is_loopback(&proxy.host));
    let proxy = elsewhere.filter(|_| host::is_loopback(&bindip))?.to_string();
    Some(WarningKind::LoopbackBindIp { bindip, proxy })
}

/// The line that voicemail.conf needs, unless `mwid-externnotify` finds everything by itself.
fn externnotify(control: &Control) -> Option<String> {
    Some(externnotify_command(control)).filter(|command| command.contains(' '))
}

/// What Asterisk runs: the helper, with the paths that are not its own.
#[must_use]
pub fn externnotify_command(control: &Control) -> String {
    let default = Control::default();
    let mut command = "mwid-externnotify".to_owned();
    if control.externnotify != default.externnotify {
        command.push_str(&format!(" --socket {}", quoted(&control.externnotify)));
    }
    if control.drop != default.drop {
        command.push_str(&format!(" --drop {}", quoted(&control.drop)));
    }
    command
}

/// A path as one word of /bin/sh, which Asterisk gives the command to.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c)) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Warns of a folder for the replies of OpenSIPS's old management interface that cannot be used.
pub(super) fn reply_folder(config: &Config) -> Option<Warning> {
    let has_files = matches!(config.opensips_mi.url, Some(MiUrl::Fifo(_) | MiUrl::Unix(_)));
    let path = has_files.then(|| config.opensips_mi.reply_folder.clone())?;
    let error = access(&path, AccessFlags::W_OK | AccessFlags::X_OK).err()?;
    Some(Warning { line: None, kind: WarningKind::ReplyFolder { path, error } })
}

/// Warns of files with passwords and keys that everybody may read.
pub(super) fn permissions(file: &Path, config: &Config) -> Vec<Warning> {
    let users = config.watchers.users.iter().map(|(_, secret)| secret);
    let mut paths: Vec<_> = [
        of_general(config),
        of_ami(config),
        of_database(config),
        of_cluster(config),
        of_subscribers(config),
        of_capture(config),
    ]
    .into_iter()
    .flatten()
    .chain(of_door(config))
    .chain(of_readers(config))
    .chain(of_webhook(config))
    .chain(of_http(config))
    .chain(users)
    .filter_map(|secret| match Secret::origin(secret) {
        Origin::Written => Some(file),
        Origin::File(path) => Some(path),
        Origin::Environment(_) => None,
    })
    .collect();
    paths.dedup();
    let open = |path: &Path| {
        // It was just read; if it is gone by now, there is nothing left to warn of.
        path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
    };
    let passwords = paths.into_iter().map(|path| (path, "a password"));
    let keys = config.http.tls_key.iter().map(|path| (path.as_path(), "a private key"));
    let warn = |(path, what): (&Path, _)| {
        let path = path.to_owned();
        Warning { line: None, kind: WarningKind::WorldReadable { path, what } }
    };
    passwords.chain(keys).filter(|(path, _)| open(path)).map(warn).collect()
}
