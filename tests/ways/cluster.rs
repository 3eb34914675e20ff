//! Two mwid that publish, on one database: one of them is killed.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mwid_core::ownership;
use nix::sys::signal::Signal;

use crate::compositor::Compositor;
use crate::house::{House, Mwid};
use crate::peer::Peer;
use crate::support::opensips_mi::OpenSips;
use crate::support::{SOON, wait_for};

const NAMES: [&str; 2] = ["vm1", "vm2"];

/// `[cluster] lease`, in seconds.
const LEASE: u64 = 2;

/// The lease, the heartbeat and a few looks, on a busy machine.
const TAKE_OVER: Duration = Duration::from_secs(LEASE + 1);

/// How long a state is published for. What a killed mwid left has a fifth of it left at least,
/// which must be longer than the take-over.
const EXPIRES: u64 = 20;

/// What a presence server has: account and counts, the newest last.
type Documents = Vec<(String, String)>;

fn node(proxy: &Peer, name: &str, base: &House, set: &[[&str; 3]]) -> House {
    let mut house = House::new(proxy);
    house.set("spool", "scope", "shared");
    house.set("spool", "path", base.path("spool").to_str().unwrap());
    house.set("database", "url", &format!("sqlite:{}", base.path("dialogs.db").display()));
    house.set("cluster", "node", name);
    house.set("cluster", "lease", &LEASE.to_string());
    house.set("cluster", "poll", "20");
    for [section, key, value] in set {
        house.set(section, key, value);
    }
    house
}

fn account(user: u32) -> String {
    format!("sip:{user}@example.com")
}

/// What a phone of this account would be told: the newest.
fn newest(documents: &Documents, user: u32) -> Option<String> {
    let own = documents.iter().rfind(|(whose, _)| *whose == account(user));
    own.map(|(_, counts)| counts.clone())
}

/// Waits until the phones of all of them would be told these counts.
fn told(documents: &impl Fn() -> Documents, users: &[u32], counts: &str, limit: Duration) {
    wait_for(&format!("{counts} for {users:?}"), limit, || {
        let documents = documents();
        users.iter().all(|user| newest(&documents, *user).as_deref() == Some(counts)).then_some(())
    });
}

/// Waits until each of them has one document, and no more.
fn one_each(documents: &impl Fn() -> Documents, users: &[u32]) {
    let limit = Duration::from_secs(2 * EXPIRES);
    wait_for("one document for each", limit, || {
        let documents = documents();
        let accounts: BTreeSet<_> = documents.iter().map(|(account, _)| account).collect();
        (documents.len() == users.len() && accounts.len() == users.len()).then_some(())
    });
}

/// Looks all the time whether one of them has no document, while something happens.
fn without_a_gap(documents: &(impl Fn() -> Documents + Sync), users: &[u32], what: impl FnOnce()) {
    let (is_over, gaps) = (AtomicBool::new(false), Mutex::new(BTreeSet::new()));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                let documents = documents();
                let gone = users.iter().filter(|user| newest(&documents, **user).is_none());
                gaps.lock().unwrap().extend(gone.copied());
                thread::sleep(Duration::from_millis(2));
            }
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(what));
        is_over.store(true, Ordering::SeqCst);
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    assert_eq!(gaps.into_inner().unwrap(), BTreeSet::new(), "a phone would have been told nothing");
}

fn agreed(nodes: &[&Mwid]) {
    for node in nodes {
        node.until("agreed", |status| {
            let cluster = &status["cluster"];
            let live = cluster["live"].as_array().map(Vec::len);
            live == Some(nodes.len()) && cluster["agreed"] == true
        });
    }
}

/// kill -9 of the one: the other has published all that was its within the promised time, nobody
/// sees nothing meanwhile, and each account has one document again, whatever comes back.
fn one_is_killed(set: &[[&str; 3]], documents: &(impl Fn() -> Documents + Sync)) {
    let proxy = Peer::silent();
    let base = House::new(&proxy);
    let houses = NAMES.map(|name| node(&proxy, name, &base, set));
    assert_eq!(houses[0].mwid(&["sql", "--apply"]).code, 0);
    let users: Vec<u32> = (200..210).collect();
    let all = |counts: usize| {
        users.iter().for_each(|user| base.messages(&format!("example.com/{user}"), counts, 0));
    };
    all(1);
    let [first, second] = houses.each_ref().map(House::start);
    agreed(&[&first, &second]);
    told(documents, &users, "1/0 (0/0)", SOON);
    one_each(documents, &users);

    let nodes = NAMES.map(str::to_owned);
    let is_its =
        |user: &u32| ownership::owner(&nodes, &account(*user).parse().unwrap()) == Some("vm2");
    let its: Vec<u32> = users.iter().copied().filter(is_its).collect();
    assert!(!its.is_empty() && its.len() < users.len(), "both have some: {its:?}");
    without_a_gap(documents, &users, || {
        let killed = Instant::now();
        second.signal(Signal::SIGKILL);
        all(2);
        told(documents, &users, "2/0 (0/0)", TAKE_OVER);
        println!("{set:?}: published by the other after {:?}", killed.elapsed());
        // What the dead one left ends by itself; the other's is refreshed.
        one_each(documents, &users);
        told(documents, &users, "2/0 (0/0)", SOON);
        // It is back, takes its own again, and nobody sees nothing then either.
        let back = houses[1].start();
        agreed(&[&first, &back]);
        all(3);
        told(documents, &users, "3/0 (0/0)", SOON);
        back.stop();
    });
}

#[test]
fn a_killed_node_is_taken_over_by_publish() {
    let compositor = Compositor::default();
    let server = compositor.serve();
    let address = server.address.to_string();
    let expires = EXPIRES.to_string();
    let set = [
        ["delivery", "use", "publish"],
        ["publish", "server", &address],
        ["publish", "expires", &expires],
    ];
    one_is_killed(&set, &|| {
        compositor.documents().into_iter().map(|it| (it.account, it.counts)).collect()
    });
}

#[test]
fn a_killed_node_is_taken_over_by_opensips_mi() {
    let opensips = OpenSips::new();
    let http = opensips.over_http();
    let url = format!("{}/mi", http.url());
    let expires = EXPIRES.to_string();
    let set = [
        ["delivery", "use", "opensips-mi"],
        ["opensips-mi", "url", &url],
        ["opensips-mi", "expires", &expires],
    ];
    let counts = |body: &str| {
        let line = body.lines().find_map(|line| line.strip_prefix("Voice-Message: "));
        line.expect("a summary").to_owned()
    };
    one_is_killed(&set, &|| {
        opensips.documents().into_iter().map(|it| (it.account, counts(&it.body))).collect()
    });
}
