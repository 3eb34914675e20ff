//! A presence server that counts in the same dialogs, and rolls the row back.

use std::collections::BTreeMap;
use std::time::Duration;

use mwid_core::dialog::Flavour;

use crate::support::SOON;
use crate::support::fleet::{Fleet, Setup, pace};

/// The jumps after a 500: 1, 10, 100. Then the CSeq is high enough.
const JUMPS: u32 = 3;

/// NOTIFYs that the server sends, at most, before it writes the row: OpenSIPS without `fallback2db`
/// does so only every `db_update_period` seconds.
const UNWRITTEN: u32 = 100;

/// The server's notifier as measured: OpenSIPS counts in memory and overwrites the row, at once or
/// much later; Kamailio with `subs_db_mode=3` reads the row for each NOTIFY and then writes it.
struct PresenceServer {
    flavour: Flavour,
    memory: BTreeMap<i64, Count>,
    sent: usize,
    refused: usize,
}

/// What OpenSIPS knows of a dialog.
#[derive(Clone, Copy)]
struct Count {
    /// The CSeq last put on the wire.
    wire: u32,
    /// The one that was read from the row, or written to it.
    row: u32,
    /// The phone's SUBSCRIBEs since then.
    refreshes: u32,
}

impl PresenceServer {
    fn new(flavour: Flavour) -> Self {
        Self { flavour, memory: BTreeMap::new(), sent: 0, refused: 0 }
    }

    /// A phone refreshes so many times; each time the server answers with a NOTIFY without a body.
    fn refresh(&mut self, fleet: &Fleet, phone: usize, times: u32, write: bool) {
        let id = i64::try_from(phone + 1).unwrap();
        let known = self.memory.get(&id).filter(|_| self.flavour == Flavour::OpenSips).copied();
        let mut count = known.unwrap_or_else(|| {
            let row = self.flavour.wire(fleet.rows.local_cseq(id));
            let wire = u32::try_from(row).unwrap();
            Count { wire, row: wire, refreshes: 0 }
        });
        for _ in 0..times {
            count.wire += 1;
            count.refreshes += 1;
            self.sent += 1;
            let is_believed = fleet.board.notify_from_server(fleet.call_id(phone), count.wire);
            self.refused += usize::from(!is_believed);
        }
        self.memory.insert(id, count);
        if write || self.flavour == Flavour::Kamailio || count.wire > count.row + UNWRITTEN - times
        {
            self.write(fleet, id);
        }
    }

    /// The row becomes what the server believes it to be.
    fn write(&mut self, fleet: &Fleet, id: i64) {
        let count = self.memory.get_mut(&id).unwrap();
        let (row, refreshes) = (self.flavour.row(i64::from(count.wire)), count.refreshes);
        fleet.rows.sql(&format!(
            "UPDATE active_watchers SET local_cseq = {row}, remote_cseq = remote_cseq + {refreshes} \
             WHERE id = {id};"
        ));
        *count = Count { row: count.wire, refreshes: 0, ..*count };
    }

    /// It crashes and takes its counts from the rows again; what was not written is lost.
    fn crash(&mut self) {
        self.memory.clear();
    }
}

fn counted_by_two(setup: Setup) {
    let mut fleet = Setup { shared: true, ..setup }.build();
    let mut server = PresenceServer::new(setup.flavour);
    fleet.start();
    let (mut kills, mut crashes) = (0, 0);
    for () in pace(1000, Duration::from_millis(6)) {
        let phone = fleet.random.index(fleet.size());
        match fleet.random.below(100) {
            0..=49 => fleet.change(1, Duration::ZERO),
            50..=88 => server.refresh(&fleet, phone, 1, true),
            89..=95 => {
                let times = 1 + u32::try_from(fleet.random.below(45)).unwrap();
                server.refresh(&fleet, phone, times, false);
            }
            96 | 97 => {
                server.crash();
                crashes += 1;
            }
            _ => {
                fleet.kill_and_spawn();
                kills += 1;
            }
        }
        fleet.board.check();
    }
    // A phone whose refresh a crash of the server kept from the row has forgotten its lamp, and
    // nobody can know it before the next refresh, which each phone makes sooner or later.
    for phone in 0..fleet.size() {
        server.refresh(&fleet, phone, 1, true);
    }
    let took = fleet.settle(SOON);
    let (sent, refused, most) = (server.sent, server.refused, fleet.most_too_low());
    fleet.report(
        took,
        &format!(
            ", the server sent {sent} of its own ({refused} refused) and crashed {crashes} \
             times, mwid was killed {kills} times, at most {most} times 500 in a row"
        ),
    );
    assert!(most <= JUMPS, "{most} times 500 in a row");
    assert!(kills > 3 && crashes > 3 && sent > 300);
}

#[test]
fn an_opensips_that_rolls_the_row_back_is_outrun() {
    let setup = Setup::new("OpenSIPS rolls the row back", 20, 5);
    counted_by_two(Setup { seed: 71, ..setup });
}

#[test]
fn a_kamailio_that_counts_in_the_same_row_is_outrun() {
    let setup = Setup::new("Kamailio counts in the same row", 20, 5);
    counted_by_two(Setup { flavour: Flavour::Kamailio, seed: 72, ..setup });
}
