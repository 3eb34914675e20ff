//! An installation with an agent, and phones.

use std::net::SocketAddr;

use crate::house::{House, Mwid};
use crate::phone::Phone;
use crate::support::net::UdpPort;

/// An installation whose daemon answers phones.
pub struct Bed {
    pub house: House,
    port: UdpPort,
}

impl Bed {
    /// It trusts everybody on loopback, and has the default SQLite file, which is not there yet.
    pub fn new() -> Self {
        let mut bed = Self { house: House::bare(), port: UdpPort::claim() };
        bed.set("listen", &format!("udp:{}", bed.address()));
        bed.set("trusted", "127.0.0.0/8");
        bed.set("min_expires", "1");
        bed
    }

    /// Writes a key of `[agent]`.
    pub fn set(&mut self, key: &str, value: &str) {
        self.house.set("agent", key, value);
    }

    /// Where the agent listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Starts it, once the spool holds this for 202, and waits until that is counted.
    pub fn start(&self) -> Mwid {
        self.house.messages("example.com/202", 2, 1);
        let mwid = self.house.start();
        mwid.log("the spool has been counted");
        mwid
    }

    /// A phone that has not subscribed yet.
    pub fn phone(&self, user: &str) -> Phone {
        Phone::new(user, self.address())
    }

    /// One at another address of loopback.
    pub fn phone_at(&self, address: &str, user: &str) -> Phone {
        Phone::at(address, user, self.address())
    }

    /// What the table has in this column, a row after the other.
    pub fn column(&self, column: &str) -> Vec<String> {
        let database = self.house.database();
        let sql = format!("SELECT CAST({column} AS TEXT) FROM active_watchers ORDER BY id");
        let mut statement = database.prepare(&sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }
}
