//! The pure heart of mwid. No runtime, no socket, no database, no clock: time and bytes come in,
//! actions and bytes come out, and Cargo keeps it so.
//!
//! Read the modules in the order in which a change walks through them:
//!
//! 1. [`mailbox`]: names, of boxes and of accounts;
//! 2. [`summary`]: how many messages wait;
//! 3. [`mailboxes`]: which boxes make up which account, and their sum;
//! 4. [`reconciler`]: works until what is delivered is what is desired, at its [`pace`];
//! 5. [`dialog`]: one subscription, a believed row of `active_watchers`;
//! 6. [`notify`]: the bytes of a NOTIFY; [`publish`]: those of a PUBLISH;
//! 7. [`timers`], [`transaction`], [`endpoint`]: retransmission (RFC 3261 §17.1.2);
//! 8. [`message`]: what the wire brought, in canonical form;
//! 9. [`outcome`]: what an answer means (RFC 6665 §4.2.2, RFC 5057).
//!
//! Beside that way: [`ownership`], which of several mwid on one database tells an account, and
//! [`publication`], the state of an account that a presence server hands on, and [`agent`], which
//! answers the phones' SUBSCRIBEs where there is no presence server.

pub mod agent;
pub mod dialog;
pub mod endpoint;
mod few;
pub mod mailbox;
pub mod mailboxes;
pub mod message;
pub mod notify;
pub mod outcome;
pub mod ownership;
pub mod pace;
pub mod publication;
pub mod publish;
pub mod reconciler;
pub mod summary;
mod text;
pub mod timers;
pub mod transaction;

#[cfg(test)]
mod lossy;
