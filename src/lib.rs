//! mwid: the daemon and its command line around [`mwid_core`].
//!
//! A change walks through the modules in this order: a [`source`] observes it, the [`daemon`]'s loop
//! feeds it to the pure parts of [`mwid_core`], [`dialogs`] finds who watches and claims a CSeq, a
//! [`delivery`] tells the phone over the [`transport`], and the [`ledger`] remembers it. Beside that
//! way: [`agent`] is what answers phones where there is no presence server, [`config`] is what an operator can say before, [`cluster`] what several
//! mwid on one database agree on, [`control`] what he can ask meanwhile,
//! [`cli`], [`run`] and [`sql`] the commands,
//! [`demo`] the whole house on one page, [`clock`] the time that the core is told, [`http_client`]
//! what is asked by HTTP, [`webhook`] what an application is told by it, [`metrics`] what
//! Prometheus is told, [`random`] what nobody can foresee, [`service_manager`] what systemd is
//! told, [`log`] what an operator reads afterwards, [`capture`] what HOMER shows him,
//! [`report`] and [`feed`] what he asks and watches, [`doctor`] what is wrong with an installation,
//! [`shipped`] where the files of a remedy are; `own_file` makes files that stay those of mwid's user.

pub mod agent;
pub mod capture;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod control;
pub mod daemon;
pub mod delivery;
pub mod demo;
pub mod dialogs;
pub mod doctor;
pub mod feed;
pub mod http_client;
pub mod ledger;
pub mod lock;
pub mod log;
pub mod metrics;
mod own_file;
pub mod random;
pub mod report;
pub mod run;
pub mod service_manager;
pub mod shipped;
pub mod source;
pub mod sql;
pub mod transport;
pub mod unix_socket;
pub mod webhook;
