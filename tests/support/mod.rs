//! What the tests stand on: the real servers, and phones that really ring up.
//!
//! [`group`] starts a server so that nothing of it outlives the test, [`net`] finds it a port,
//! [`wait`] waits for it. [`kamailio`] is the proxy, [`phone`] a SIPp phone, [`trace`] what it saw,
//! [`sip`] reads a message, [`relay`] is a network that loses some.

// Each test file uses a part of this.
#![allow(dead_code, unreachable_pub, clippy::print_stderr)]

pub mod group;
pub mod kamailio;
pub mod mariadb;
pub mod net;
pub mod phone;
pub mod postgres;
pub mod relay;
pub mod sidecar;
pub mod sip;
pub mod trace;
pub mod wait;
