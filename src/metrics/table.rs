//! The table. A new metric is a row here; `MWID_WRITE_DOCS=1 cargo test --test metrics` writes it into
//! docs/metrics.md.

use super::reading::Reading;
use super::text::Samples;
use super::{Kind, Metric};
use crate::source::ami::Phase;
use crate::source::spool::RootState;

type Read = fn(&Reading, &mut Samples<'_>);
type Labels = &'static [&'static str];

const fn counter(name: &'static str, labels: Labels, help: &'static str, read: Read) -> Metric {
    Metric { name, kind: Kind::Counter, unit: "", labels, help, read }
}

const fn gauge(
    name: &'static str,
    unit: &'static str,
    labels: Labels,
    help: &'static str,
    read: Read,
) -> Metric {
    Metric { name, kind: Kind::Gauge, unit, labels, help, read }
}

const fn histogram(name: &'static str, help: &'static str, read: Read) -> Metric {
    Metric { name, kind: Kind::Histogram, unit: "seconds", labels: &[], help, read }
}

/// 1 for yes.
const fn flag(name: &'static str, help: &'static str, read: Read) -> Metric {
    gauge(name, "", &[], help, read)
}

/// All metrics, in the order of the page.
pub static TABLE: &[Metric] = &[
    // Changes.
    counter(
        "mwid_changes_total",
        &["source"],
        "Mailboxes that hold something else than before, by who said so first; what is only counted again is none.",
        |it, out| {
            it.counters.tally.changes.each(|source, count| out.with(&[source], count as f64));
        },
    ),
    gauge("mwid_mailboxes", "", &[], "Mailboxes whose counts are known.", |it, out| {
        out.count(it.mailboxes as u64);
    }),
    flag("mwid_spool_up", "1 while the voicemail spool can be read.", |it, out| {
        if let Some(spool) = &it.spool {
            out.flag(!matches!(spool.root, RootState::Absent { .. } | RootState::Stopped));
        }
    }),
    gauge(
        "mwid_spool_uncounted",
        "",
        &[],
        "Mailboxes and contexts of the spool that cannot be counted now.",
        |it, out| it.spool.iter().for_each(|spool| out.count(spool.troubles_total as u64)),
    ),
    gauge("mwid_spool_folders_watched", "", &[], "Folders that the kernel watches.", |it, out| {
        it.spool.iter().for_each(|spool| out.count(spool.folders_watched as u64));
    }),
    flag(
        "mwid_spool_polled",
        "1 while the spool must be polled: inotify is not enough.",
        |it, out| {
            let polled = |root: &RootState| *root == RootState::Polling;
            it.spool.iter().for_each(|it| out.flag(it.also_polled.is_some() || polled(&it.root)));
        },
    ),
    gauge(
        "mwid_spool_counted_timestamp_seconds",
        "seconds",
        &[],
        "When the whole spool was last counted, Unix time.",
        |it, out| {
            let last = it.spool.iter().filter_map(|spool| spool.last_full_count);
            last.for_each(|count| out.count(count.at));
        },
    ),
    gauge("mwid_spool_count_duration_seconds", "seconds", &[], "How long that took.", |it, out| {
        let last = it.spool.iter().filter_map(|spool| spool.last_full_count);
        last.for_each(|count| out.one(count.took_ms as f64 / 1000.0));
    }),
    flag("mwid_ami_up", "1 while every change is heard from Asterisk's manager.", |it, out| {
        it.ami.iter().for_each(|ami| out.flag(ami.phase == Phase::Following));
    }),
    counter(
        "mwid_externnotify_refused_total",
        &["door"],
        "What came to the externnotify socket or drop folder and was no call.",
        |it, out| {
            if let Some(stats) = &it.externnotify {
                out.with(&["socket"], stats.garbage as f64);
                out.with(&["drop"], stats.bad_files as f64);
            }
        },
    ),
    // Lamps.
    gauge("mwid_accounts", "", &[], "Accounts that this mwid tells.", |it, out| {
        out.count(it.census.accounts as u64);
    }),
    gauge(
        "mwid_accounts_waiting",
        "",
        &[],
        "Accounts with something left to look up, to send or to retry.",
        |it, out| out.count(it.census.waiting as u64),
    ),
    gauge(
        "mwid_dialogs",
        "",
        &["state"],
        "Subscriptions seen: current (the phone acknowledged all that is known), gone (by the phone's own word), behind.",
        |it, out| {
            let (all, current, gone) = (it.census.dialogs, it.census.delivered, it.census.dead);
            out.with(&["current"], current as f64);
            out.with(&["gone"], gone as f64);
            out.with(&["behind"], all.saturating_sub(current + gone) as f64);
        },
    ),
    gauge("mwid_in_flight", "", &[], "NOTIFYs and publications under way.", |it, out| {
        out.count(it.census.in_flight as u64);
    }),
    counter(
        "mwid_notifies_total",
        &["outcome", "code"],
        "NOTIFYs that ended, by what is done about it and by SIP code, or timeout, unreachable, not_sent, stopped.",
        |it, out| {
            let notifies = &it.counters.tally.notifies;
            notifies.each(|outcome, code, count| out.with(&[outcome, code], count as f64));
        },
    ),
    histogram(
        "mwid_notify_round_trip_seconds",
        "From the first copy of a NOTIFY to its final answer, lost copies included.",
        |it, out| out.histogram(&it.counters.tally.round_trip),
    ),
    histogram(
        "mwid_event_to_acknowledged_seconds",
        "From when mwid knew of a change to the 2xx of each phone that was subscribed then.",
        |it, out| out.histogram(&it.counters.tally.acknowledged),
    ),
    counter(
        "mwid_cseq_jumps_total",
        &[],
        "NOTIFYs that were answered 500: somebody else counted further, mwid jumps ahead.",
        |it, out| out.count(it.counters.cseq_too_low),
    ),
    counter("mwid_clock_jumps_total", &[], "How often the system clock was set.", |it, out| {
        out.count(it.counters.clock_jumps);
    }),
    // SIP.
    counter("mwid_sip_requests_total", &[], "NOTIFYs and PUBLISHs begun.", |it, out| {
        out.count(it.sip.started);
    }),
    counter(
        "mwid_sip_copies_total",
        &[],
        "Copies of them beyond the first: retransmissions of RFC 3261.",
        |it, out| out.count(it.sip.copies.saturating_sub(it.sip.started)),
    ),
    counter(
        "mwid_sip_received_total",
        &["kind"],
        "Datagrams on the SIP socket, by what they were.",
        |it, out| {
            let sip = &it.sip;
            for (kind, count) in [
                ("answer", sip.answers),
                ("repeated_answer", sip.retransmitted_answers),
                ("provisional", sip.provisional),
                ("stray", sip.strays),
                ("request", sip.requests),
                ("keep_alive", sip.keep_alives),
                ("garbage", sip.garbage),
            ] {
                out.with(&[kind], count as f64);
            }
        },
    ),
    gauge("mwid_proxies_suspended", "", &[], "Proxies that do not answer now.", |it, out| {
        out.count(it.suspended_proxies as u64);
    }),
    // The database and the ledger.
    flag("mwid_database_up", "1 while the subscriptions can be read.", |it, out| {
        if it.watch.is_some() {
            out.flag(it.reads);
        }
    }),
    flag("mwid_database_writable", "1 while CSeqs can be claimed in it.", |it, out| {
        if it.watch.is_some() {
            out.flag(it.claims);
        }
    }),
    counter("mwid_database_errors_total", &[], "Questions that it did not answer.", |it, out| {
        out.count(it.counters.database_errors);
    }),
    counter("mwid_lookups_total", &[], "Look-ups of an account's subscriptions.", |it, out| {
        out.count(it.counters.lookups);
    }),
    counter("mwid_claims_total", &[], "CSeqs that were asked for.", |it, out| {
        out.count(it.counters.claims);
    }),
    counter("mwid_rows_refused_total", &[], "Rows that no NOTIFY can be made of.", |it, out| {
        out.count(it.counters.bad_rows);
    }),
    counter(
        "mwid_lookups_capped_total",
        &[],
        "Look-ups that found more subscriptions than max_dialogs: the oldest are not told.",
        |it, out| out.count(it.counters.capped_lookups),
    ),
    flag("mwid_watch_up", "1 while new subscriptions are seen.", |it, out| {
        it.watch.iter().for_each(|watch| out.flag(watch.error.is_none()));
    }),
    counter(
        "mwid_subscriptions_seen_total",
        &[],
        "New or refreshed subscriptions seen.",
        |it, out| {
            out.count(it.counters.new_subscriptions);
        },
    ),
    counter("mwid_watch_rows_total", &[], "Rows read to see them.", |it, out| {
        it.watch.iter().for_each(|watch| out.count(watch.rows_read));
    }),
    gauge(
        "mwid_database_clock_skew_seconds",
        "seconds",
        &[],
        "How far the database's clock is ahead of this machine's, when more than half a minute.",
        |it, out| it.watch.iter().for_each(|watch| out.one(watch.clock_skew_seconds as f64)),
    ),
    flag("mwid_ledger_up", "1 while the ledger can be written.", |it, out| {
        out.flag(it.ledger_works);
    }),
    // The presence agent.
    gauge("mwid_agent_subscriptions", "", &[], "Subscriptions at mwid's own agent.", |it, out| {
        it.agent.iter().for_each(|agent| out.count(agent.subscriptions));
    }),
    counter("mwid_agent_requests_total", &["kind"], "Requests to it, by what they were.", agent),
    // Publications.
    gauge(
        "mwid_publications",
        "",
        &["way", "state"],
        "What presence servers are to have of accounts, by whether they have taken it.",
        |it, out| {
            for way in &it.ways {
                let name = way.way.name();
                out.with(&[name, "current"], way.accepted as f64);
                out.with(&[name, "behind"], way.known.saturating_sub(way.accepted) as f64);
            }
        },
    ),
    gauge(
        "mwid_publish_up",
        "",
        &["way"],
        "0 once a way's last step came to nothing.",
        |it, out| {
            let up = |works| f64::from(u8::from(works));
            it.ways.iter().for_each(|way| out.with(&[way.way.name()], up(way.works)));
        },
    ),
    counter(
        "mwid_publication_steps_total",
        &["step"],
        "Steps of publications that were answered.",
        |it, out| {
            let counters = &it.counters;
            for (step, count) in [
                ("published", counters.published),
                ("refreshed", counters.refreshed),
                ("afresh", counters.published_afresh),
                ("removed", counters.unpublished),
                ("later", counters.publications_retried),
            ] {
                out.with(&[step], count as f64);
            }
        },
    ),
    // The webhook and HOMER.
    flag("mwid_webhook_up", "1 while the application takes events.", |it, out| {
        it.webhook.iter().for_each(|webhook| out.flag(webhook.error.is_none()));
    }),
    gauge("mwid_webhook_waiting", "", &[], "Events that wait for it.", |it, out| {
        it.webhook.iter().for_each(|webhook| out.count(webhook.waiting as u64));
    }),
    counter(
        "mwid_webhook_events_total",
        &["result"],
        "Events: taken, given_up (refused, or tried too often), dropped (too many waited).",
        |it, out| {
            if let Some(webhook) = &it.webhook {
                out.with(&["taken"], webhook.taken as f64);
                out.with(&["given_up"], webhook.given_up as f64);
                out.with(&["dropped"], webhook.dropped as f64);
            }
        },
    ),
    counter("mwid_capture_messages_total", &["result"], "SIP messages for HOMER.", |it, out| {
        if let Some(capture) = &it.capture {
            out.with(&["mirrored"], capture.mirrored as f64);
            out.with(&["lost"], capture.lost as f64);
        }
    }),
    // Several mwid.
    flag("mwid_cluster_up", "1 while the cluster's tables can be used.", |it, out| {
        it.cluster.iter().for_each(|cluster| out.flag(cluster.error.is_none()));
    }),
    gauge("mwid_cluster_members", "", &[], "Live nodes, as this one sees them.", |it, out| {
        it.cluster.iter().for_each(|cluster| out.count(cluster.live.len() as u64));
    }),
    flag("mwid_cluster_agreed", "1 while all of them see the same.", |it, out| {
        it.cluster.iter().for_each(|cluster| out.flag(cluster.agreed));
    }),
    gauge(
        "mwid_cluster_lease_seconds",
        "seconds",
        &[],
        "How long this node may still tell its accounts without hearing of the database.",
        |it, out| it.cluster.iter().for_each(|it| out.one(it.lease_ms as f64 / 1000.0)),
    ),
    gauge("mwid_cluster_unpublished", "", &[], "Counts not in its tables yet.", |it, out| {
        it.cluster.iter().for_each(|cluster| out.count(cluster.unpublished as u64));
    }),
    // HTTP.
    counter("mwid_http_requests_total", &["result"], "Requests at the HTTP door.", |it, out| {
        if let Some(http) = &it.http {
            let refused = http.unauthorized + http.refused;
            out.with(&["done"], http.requests.saturating_sub(refused) as f64);
            out.with(&["unauthorized"], http.unauthorized as f64);
            out.with(&["refused"], http.refused as f64);
        }
    }),
    gauge("mwid_http_connections", "", &[], "Connections to it.", |it, out| {
        it.http.iter().for_each(|http| out.count(http.connections as u64));
    }),
    // mwid itself.
    gauge("mwid_build_info", "", &["version"], "1, with the version of mwid.", |_, out| {
        out.with(&[env!("CARGO_PKG_VERSION")], 1.0);
    }),
    gauge(
        "process_start_time_seconds",
        "seconds",
        &[],
        "When mwid started, Unix time.",
        |it, out| out.one(it.counters.tally.started),
    ),
    counter("process_cpu_seconds_total", &[], "User and system time.", |it, out| {
        it.process.cpu.iter().for_each(|cpu| out.one(cpu.as_secs_f64()));
    }),
    gauge("process_resident_memory_bytes", "bytes", &[], "Memory in use.", |it, out| {
        it.process.resident_bytes.iter().for_each(|bytes| out.count(*bytes));
    }),
    gauge("process_virtual_memory_bytes", "bytes", &[], "Addresses in use.", |it, out| {
        it.process.virtual_bytes.iter().for_each(|bytes| out.count(*bytes));
    }),
    gauge("process_open_fds", "", &[], "Open files and sockets.", |it, out| {
        it.process.open_files.iter().for_each(|files| out.count(*files as u64));
    }),
    gauge("process_max_fds", "", &[], "How many there may be.", |it, out| {
        it.process.max_files.iter().for_each(|files| out.count(*files));
    }),
];

fn agent(it: &Reading, out: &mut Samples<'_>) {
    let Some(agent) = &it.agent else { return };
    let stats = &agent.stats;
    for (kind, count) in [
        ("begun", stats.begun),
        ("refreshed", stats.refreshed),
        ("ended", stats.ended),
        ("refused", stats.refused),
        ("wrong_credentials", stats.wrong_credentials),
        ("copy", stats.copies),
        ("hasty", stats.hasty),
        ("flooded", stats.flooded),
        ("dropped", stats.dropped),
    ] {
        out.with(&[kind], count as f64);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        let mut seen = BTreeSet::new();
        for metric in TABLE {
            let Metric { name, kind, unit, labels, help, .. } = metric;
            assert!(seen.insert(name), "{name} is there twice");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            let stem = name.trim_end_matches("_total");
            assert!(unit.is_empty() || stem.ends_with(&format!("_{unit}")), "{name}: {unit}");
            assert!(help.ends_with('.') && !help.contains(['\n', '|']), "{name}: {help}");
            assert!(!labels.iter().any(|label| ["le", "account"].contains(label)), "{name}");
            let is_letter = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(name.chars().chain(labels.concat().chars()).all(is_letter), "{name}");
        }
    }
}
