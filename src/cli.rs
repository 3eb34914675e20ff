//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Turns the message lamp of SIP phones on and off.
///
/// mwid runs beside a media server, learns that a voicemail box changed, finds the phones that
/// subscribed to it in the active_watchers table of an OpenSIPS or Kamailio presence server, and
/// sends each an in-dialog NOTIFY through the SIP proxy until the phone has the truth.
#[derive(Debug, Parser)]
#[command(name = "mwid", version, arg_required_else_help = true)]
pub struct Cli {
    /// The configuration file.
    #[arg(short, long, global = true, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Where Asterisk's module kept its configuration.
pub const DEFAULT_CONFIG: &str = "/etc/asterisk/zonkeymwi.conf";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon in the foreground. SIGHUP reloads, SIGTERM stops.
    Run,
    /// Check the configuration and print it with every default filled in.
    ///
    /// The database, the spool and the proxy are not asked. Exit code 1 when it is refused.
    Check {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Walk the whole installation and say what is wrong, with the remedy.
    ///
    /// Configuration, spool, database and its rows, clock, proxy, sockets, voicemail.conf, ledger,
    /// other doors, the running daemon. Nothing is changed. Root looks at everything as the user of the unit. Exit code 0: all is
    /// well; 1: there are warnings; 2: something failed.
    Doctor {
        /// Asterisk's voicemail.conf; by default the one beside the configuration.
        #[arg(long, value_name = "FILE")]
        voicemail: Option<PathBuf>,
        /// The unit that mwid runs by; by default mwid.service where systemd looks for it.
        #[arg(long, value_name = "FILE")]
        unit: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Print a finding in JSON a line: for the doctor that root started.
        #[arg(long, hide = true, conflicts_with = "json")]
        lines: bool,
    },
    /// Show the way of a voicemail to a phone, with nothing installed.
    Demo {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Tell the daemon that a mailbox changed, as Asterisk's externnotify does.
    ///
    /// voicemail.conf: externnotify = /usr/bin/mwid-externnotify. With --config FILE in front of
    /// `externnotify`, the socket and the folder of that configuration are used.
    #[command(name = "externnotify", disable_help_flag = true)]
    Externnotify {
        /// CONTEXT MAILBOX [NEW [OLD [URGENT]]]
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Print, install or remove the SQL that shows new subscriptions at once.
    ///
    /// For the configured database. With [spool] scope = own or shared also that of the cluster's
    /// tables, with [agent] listen that of the agent's; these tables are never removed. The scripts say what they do, what they cost and which rights they need. Without them mwid
    /// reads the whole table now and then ([database] resync).
    Sql {
        /// Install it, with the user of [database] url. Again, it changes nothing.
        #[arg(long)]
        apply: bool,
        /// Take it away.
        #[arg(long, conflicts_with = "apply")]
        remove: bool,
    },
    /// How mwid is, and how much is left to do.
    ///
    /// The first line is that of res_zonkey_mwi: Module ENABLED, or Module DISABLED while the database cannot be used.
    /// mwid runs all the same then, and tells what changed when the database answers.
    /// Exit code 0: the database can be used; 1: it cannot; 3: mwid does not run.
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show what is known of an account, of mailboxes, who waits and why.
    Show {
        /// What to show.
        #[command(subcommand)]
        what: Show,
    },
    /// Tell the phones of an account these counts, until they are counted next.
    Notify {
        /// User part of the account: 202.
        user: String,
        /// Domain part of the account: example.com.
        domain: String,
        /// New messages.
        #[arg(value_parser = count, allow_negative_numbers = true)]
        new: u32,
        /// Old messages.
        #[arg(value_parser = count, allow_negative_numbers = true)]
        old: u32,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print each NOTIFY and its answer to the daemon's log, or stop doing so.
    Debug {
        /// Whether to print.
        state: Switch,
        /// Those of one account alone, its user part: 202. Several commands name several.
        #[arg(requires = "domain")]
        user: Option<String>,
        /// Domain part of the account: example.com.
        domain: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Follow what happens, line by line.
    ///
    /// What a source says of a mailbox, each NOTIFY, its answer and how long that took; at a start or
    /// while the table is read, how far it is. Ends when the daemon does (exit code 3), or when the reader goes away. A reader that is
    /// slower than what happens is told how much it missed.
    Watch {
        /// Of one account alone, its user part: 202.
        #[arg(requires = "domain")]
        user: Option<String>,
        /// Domain part of the account: example.com.
        domain: Option<String>,
        /// Print JSON, one object a line.
        #[arg(long)]
        json: bool,
    },
    /// Say that the missing mailboxes of a context are gone for good.
    ///
    /// When the folder of a context is gone, or another one than it was, mwid does not know whether
    /// it was removed or is only not mounted, and leaves the lamps as they are. `mwid status` says
    /// so. This turns them off. Exit code 1 when no mailbox of the context is missed.
    Forget {
        /// The voicemail context: default.
        context: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Send the phones of the presence agent elsewhere.
    ///
    /// Ends the subscriptions that it took and refuses new ones, before this machine is taken away.
    /// Until --off, or a restart.
    Drain {
        /// Take subscriptions again.
        #[arg(long)]
        off: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Read the configuration again; a refused one never replaces the working one.
    Reload {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// What `mwid show` shows.
#[derive(Debug, Subcommand)]
pub enum Show {
    /// What waits for an account, and what became of each of its phones.
    ///
    /// Who says so; of each phone what it shows, when its subscription ends, what it answered and when
    /// it is tried again. Exit code 1 when nothing is known of the account, or its subscriptions cannot
    /// be read.
    Account {
        /// User part of the account: 202.
        user: String,
        /// Domain part of the account: example.com.
        domain: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// The accounts that wait, and why.
    Pending {
        /// How many of them are shown one by one, 1000 at most.
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// All mailboxes, with what they hold, who says so, and whom they light.
    ///
    /// Exit code 1 when there is none.
    Mailboxes {
        /// Those of one voicemail context: default.
        context: Option<String>,
        /// Print JSON, one object a line.
        #[arg(long)]
        json: bool,
    },
    /// The live subscriptions of an account, and its publications.
    ///
    /// Exit code 1 when there is none.
    Subscription {
        /// User part of the account: 202.
        user: String,
        /// Domain part of the account: example.com.
        domain: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// How many messages.
fn count(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("how many messages: a number from 0 to {}", u32::MAX))
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Print.
    On,
    /// Do not.
    Off,
}
