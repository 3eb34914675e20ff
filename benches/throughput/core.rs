//! mwid without database and ledger: reconciler, NOTIFYs, transactions, and the real socket.

use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mwid::clock;
use mwid::config;
use mwid::delivery::Order;
use mwid::delivery::sip::SipDelivery;
use mwid::transport::{Sent, Transport};
use mwid_core::dialog::Dialog;
use mwid_core::endpoint::Transmit;
use mwid_core::pace::Backoff;
use mwid_core::reconciler::{Action, Reconciler, Settings, Urgency, Verdict};
use mwid_core::summary::Summary;

use crate::common::phones::{receive, socket};
use crate::common::{own_cpu, site};
use crate::{Cost, PATIENCE, WINDOW};

/// Tells so many phones.
pub fn run(size: usize) -> Cost {
    let phones = socket();
    let address = phones.local_addr().unwrap();
    thread::spawn(move || answer(&phones, size));
    let text = format!("[general]\nproxy = {address}\nbindip = 127.0.0.1\n");
    let config = config::parse(Path::new("bench.conf"), &text, &config::Process).unwrap().config;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut mwid = Alone {
            reconciler: Reconciler::new(settings(), 1),
            delivery: SipDelivery::new(&config, 0x5eed),
            transport: Transport::bind(&config.general).unwrap(),
            dialogs: (0..size).map(|number| Some(dialog(number, &address.to_string()))).collect(),
            unsent: None,
            told: 0,
        };
        let (began, used) = (Instant::now(), own_cpu());
        mwid.tell_all().await;
        Cost { requests: size, cpu: own_cpu() - used, elapsed: began.elapsed() }
    })
}

fn settings() -> Settings {
    Settings {
        min_interval: Duration::ZERO,
        settle: Duration::ZERO,
        rate: u32::MAX,
        backoff: Backoff { min: Duration::from_secs(5), max: Duration::from_secs(600) },
        max_lookups: WINDOW,
        max_in_flight: WINDOW,
        shared: false,
    }
}

fn dialog(number: usize, address: &str) -> Dialog {
    Dialog::from_row(&site::subscription(number).row(number as i64, address)).unwrap()
}

struct Alone {
    reconciler: Reconciler,
    delivery: SipDelivery,
    transport: Transport,
    /// Each until it is looked up: a copy would be of no use to anybody but be measured.
    dialogs: Vec<Option<Dialog>>,
    /// The kernel had no room for it.
    unsent: Option<Transmit>,
    told: usize,
}

impl Alone {
    async fn tell_all(&mut self) {
        let summary = Summary { new: 1, ..Summary::default() };
        for dialog in self.dialogs.iter().flatten() {
            self.reconciler.set(&dialog.account, summary, Urgency::Fresh, false);
        }
        let (began, mut buffer) = (Instant::now(), vec![0; 65_535]);
        loop {
            self.advance();
            if self.told == self.dialogs.len() {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "only {} were told", self.told);
            let due = [self.delivery.poll_timeout(), self.reconciler.poll_timeout(Instant::now())];
            let due = due.into_iter().flatten().min().unwrap_or(began + PATIENCE);
            tokio::select! {
                _ = self.transport.readable() => self.receive(&mut buffer),
                _ = self.transport.writable(), if self.unsent.is_some() => {}
                () = tokio::time::sleep_until(due.into()) => self.delivery.handle_timeout(Instant::now()),
            }
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) {
        let now = Instant::now();
        while let Some((length, from)) = self.transport.try_receive(buffer) {
            self.delivery.handle_datagram(now, from, &buffer[..length], |_| {});
        }
    }

    /// As the daemon's loop, with a database that answers at once.
    fn advance(&mut self) {
        let (now, unix) = (Instant::now(), clock::unix());
        loop {
            while let Some(action) = self.reconciler.poll_action(now) {
                self.act(action, now, unix);
            }
            while let Some(name) = self.delivery.poll_resolve() {
                let found = mwid::transport::resolve(&name.host, name.port);
                self.delivery.handle_resolved(&name, found, now, unix, &self.transport);
            }
            self.transmit();
            let Some(report) = self.delivery.poll_report() else { return };
            assert_eq!(report.verdict, Verdict::Delivered, "{report:?}");
            self.told += 1;
            self.reconciler.handle_verdict(report.order.dialog.row, report.verdict, now);
        }
    }

    fn transmit(&mut self) {
        while let Some(transmit) = self.unsent.take().or_else(|| self.delivery.poll_transmit()) {
            match self.transport.try_send(transmit.to, &transmit.bytes) {
                Sent::Ok => {}
                Sent::Full => {
                    self.unsent = Some(transmit);
                    return;
                }
                failed => panic!("{failed:?}"),
            }
        }
    }

    fn act(&mut self, action: Action, now: Instant, unix: u64) {
        match action {
            Action::Find(account) => {
                let number: usize = account.user().parse().unwrap();
                let found = self.dialogs[number - 1_000_000].take();
                let found = found.expect("each account is looked up once");
                self.reconciler.handle_dialogs(&account, vec![found], now, unix);
            }
            Action::Claim { dialog, above } => {
                self.reconciler.handle_claim(dialog.row, Some(above + 1), now);
            }
            Action::Notify { dialog, account, summary, cseq } => {
                let order = Order { dialog: Arc::clone(&dialog), account, summary, cseq };
                self.delivery.send(order, now, unix, &self.transport);
            }
            Action::Publish(order) => panic!("{order:?} of an account that is told by NOTIFY"),
        }
    }
}

/// The phones: with as little work as can be.
fn answer(socket: &UdpSocket, size: usize) {
    let (mut buffer, mut told) = (vec![0; 65_535], 0);
    while told < size {
        let Some((length, from)) = receive(socket, &mut buffer) else { continue };
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        let kept = text.split_inclusive("\r\n").take_while(|line| *line != "\r\n").filter(|line| {
            ["Via:", "From:", "To:", "Call-ID:", "CSeq:"].iter().any(|it| line.starts_with(it))
        });
        let mut answer = String::from("SIP/2.0 200 OK\r\n");
        kept.for_each(|line| answer.push_str(line));
        answer.push_str("Content-Length: 0\r\n\r\n");
        socket.send_to(answer.as_bytes(), from).unwrap();
        told += 1;
    }
}
