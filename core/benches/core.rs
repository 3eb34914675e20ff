//! What one NOTIFY costs the core, in nanoseconds: `cargo bench -p mwid-core --bench core`.
//!
//! Each step runs in a plain loop, several times; the median counts. The first row, copying the
//! finished bytes, is what no way of making them can be cheaper than.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mwid_core::dialog::{Dialog, Row};
use mwid_core::endpoint::Endpoint;
use mwid_core::mailbox::Account;
use mwid_core::message::{Message, Method};
use mwid_core::notify::{Hop, Notifier, Notify, RequestUri, Route};
use mwid_core::pace::Backoff;
use mwid_core::reconciler::{Action, Reconciler, Settings, Urgency, Verdict};
use mwid_core::summary::Summary;
use mwid_core::timers::Timers;

const UNIX: u64 = 1_795_000_000;
const RUNS: usize = 15;

fn main() {
    let (dialog, notifier, hop) = (dialog(1), notifier(), hop());
    let notify = Notify {
        dialog: &dialog,
        account: &dialog.account,
        summary: Some(Summary { new: 3, old: 5, new_urgent: 1, old_urgent: 0 }),
        cseq: 150,
        branch: "z9hG4bK0123456789abcdef",
        hop: &hop,
        unix: UNIX,
        authorization: &[],
    };
    let mut bytes = Vec::with_capacity(1024);
    notify.write(&notifier, &mut bytes);
    let answer = answer("z9hG4bK0123456789abcdef");
    let mut out = Vec::with_capacity(1024);

    let floor = time("copying the bytes of a NOTIFY", None, 200_000, || {
        out.clear();
        out.extend_from_slice(black_box(&bytes));
        black_box(&out);
    });
    time("building a NOTIFY", Some(floor), 50_000, || {
        out.clear();
        black_box(&notify).write(&notifier, &mut out);
        black_box(&out);
    });
    time("reading an answer", Some(floor), 50_000, || {
        black_box(Message::parse(black_box(&answer)).is_ok());
    });
    time("believing a row", Some(floor), 50_000, || {
        black_box(Dialog::from_row(black_box(&row(1))).is_ok());
    });
    transactions(floor, &bytes);
    reconciler(floor);
}

/// Prints and returns the median time of one `step`.
fn time(what: &str, floor: Option<Duration>, steps: u32, mut step: impl FnMut()) -> Duration {
    let mut runs: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            (0..steps).for_each(|_| step());
            start.elapsed()
        })
        .collect();
    runs.sort_unstable();
    let median = runs[RUNS / 2];
    let one = median.as_secs_f64() * 1e9 / f64::from(steps);
    let ratio = floor.map_or(1.0, |floor| one / (floor.as_secs_f64() * 1e9));
    println!("{what:<44} {one:>8.0} ns {ratio:>7.1} x");
    Duration::from_secs_f64(median.as_secs_f64() / f64::from(steps))
}

/// A whole transaction: branch, start, send, answer, end.
fn transactions(floor: Duration, bytes: &[u8]) {
    let (now, proxy) = (Instant::now(), ([127, 0, 0, 1], 5060).into());
    let bytes: Arc<[u8]> = bytes.into();
    // Room for few: a completed one makes place for the next, and the map stays small.
    let mut endpoint = Endpoint::new(Timers::default(), 0x5eed, 64);
    time("a transaction, its answer included", Some(floor), 20_000, || {
        let branch = endpoint.branch();
        let answer = answer(&branch.to_string());
        endpoint
            .start(now, branch, 150, Method::Notify, proxy, Arc::clone(&bytes))
            .expect("there is room");
        black_box(endpoint.poll_transmit().expect("the first copy"));
        endpoint.handle_datagram(now, proxy, &answer);
        black_box(endpoint.poll_event().expect("it completed"));
    });
}

/// A whole change: set, look-up, claim, NOTIFY, verdict; 1,000 accounts in turn.
fn reconciler(floor: Duration) {
    let settings = Settings {
        min_interval: Duration::ZERO,
        settle: Duration::ZERO,
        rate: u32::MAX,
        backoff: Backoff { min: Duration::from_secs(5), max: Duration::from_secs(600) },
        max_lookups: 64,
        max_in_flight: 16_384,
        shared: true,
    };
    let mut reconciler = Reconciler::new(settings, 1);
    let accounts: Vec<(Account, Dialog)> =
        (0..1000).map(dialog).map(|dialog| (dialog.account.clone(), dialog)).collect();
    let (mut now, mut count) = (Instant::now(), 0_u32);
    time("a change, from set to verdict", Some(floor), 20_000, || {
        let (account, dialog) = &accounts[count as usize % accounts.len()];
        count += 1;
        now += Duration::from_micros(10);
        let summary = Summary { new: count, ..Summary::default() };
        reconciler.set(account, summary, Urgency::Fresh, false);
        while let Some(action) = reconciler.poll_action(now) {
            match action {
                Action::Find(account) => {
                    reconciler.handle_dialogs(&account, vec![dialog.clone()], now, UNIX);
                }
                Action::Claim { dialog, above } => {
                    reconciler.handle_claim(dialog.row, Some(above + 1), now);
                }
                Action::Notify { dialog, .. } => {
                    reconciler.handle_verdict(dialog.row, Verdict::Delivered, now);
                }
                Action::Publish(order) => panic!("{order:?} of an account that is told by NOTIFY"),
            }
        }
        assert!(reconciler.is_settled(account, now), "the change was delivered");
    });
}

fn row(id: i64) -> Row {
    let text = |value: &str| Some(value.to_owned());
    let user = 10_000 + id;
    Row {
        id,
        presentity_uri: Some(format!("sip:{user}@example.com")),
        from_user: Some(user.to_string()),
        from_domain: text("example.com"),
        to_user: Some(user.to_string()),
        to_domain: text("example.com"),
        to_tag: text("944cfec2ae51664c1f4ff1ec5d501247-9753"),
        from_tag: text("B22C69FD-D3E2550A"),
        callid: Some(format!("3c26700857a6-{id}@192.0.2.7")),
        local_cseq: Some(3),
        remote_cseq: Some(2),
        contact: Some(format!("sip:{user}@192.0.2.7:5062;transport=udp")),
        record_route: text("<sip:192.0.2.1;lr=on;ftag=B22C>"),
        expires: i64::try_from(UNIX + 3600).ok(),
        event_id: None,
        local_contact: text("sip:192.0.2.1:5060"),
        socket_info: text("udp:192.0.2.1:5060"),
        ..Row::default()
    }
}

fn dialog(id: i64) -> Dialog {
    Dialog::from_row(&row(id)).expect("the row is sound")
}

fn notifier() -> Notifier {
    Notifier {
        user_agent: "mwid".into(),
        contact_user: None,
        voicemail: Some("*97".into()),
        request_uri: RequestUri::Contact,
        route: Route::Auto,
    }
}

fn hop() -> Hop {
    Hop {
        authority: "proxy.example.com:5060".into(),
        resolved: "192.0.2.1:5060".into(),
        host: "192.0.2.9".into(),
        port: 40_000,
    }
}

fn answer(branch: &str) -> Vec<u8> {
    format!(
        "SIP/2.0 200 OK\r\n\
         Via: SIP/2.0/UDP 192.0.2.9:40000;branch={branch};rport=40000;received=192.0.2.9\r\n\
         From: <sip:202@example.com>;tag=944cfec2ae51664c1f4ff1ec5d501247-9753\r\n\
         To: <sip:202@example.com>;tag=B22C69FD-D3E2550A\r\n\
         Call-ID: 3c26700857a6-1@192.0.2.7\r\nCSeq: 150 NOTIFY\r\n\
         Contact: <sip:202@192.0.2.7:5062;transport=udp>\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}
