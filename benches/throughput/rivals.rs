//! What the daemon is measured against.

use std::fs;
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use tempfile::TempDir;

use crate::common::own_cpu;
use crate::common::phones::{Phones, receive, socket};
use crate::support::process;
use crate::{Cost, WINDOW};

/// As long as a NOTIFY of mwid and its answer.
const REQUEST: usize = 750;
const ANSWER: usize = 330;

/// Sends requests and takes in answers, and does nothing else.
pub fn bare_loop(requests: usize) -> Cost {
    let server = socket();
    let address = server.local_addr().unwrap();
    let echo = thread::spawn(move || {
        let (mut buffer, answer) = (vec![0; 65_535], [b'a'; ANSWER]);
        let mut answered = 0;
        while answered < requests {
            let Some((_, from)) = receive(&server, &mut buffer) else { continue };
            server.send_to(&answer, from).unwrap();
            answered += 1;
        }
    });
    let client: UdpSocket = socket();
    let (request, mut buffer) = ([b'r'; REQUEST], vec![0; 65_535]);
    let (began, used) = (Instant::now(), own_cpu());
    let window = WINDOW.min(requests);
    for _ in 0..window {
        client.send_to(&request, address).unwrap();
    }
    for answered in 1..=requests {
        receive(&client, &mut buffer).expect("nothing is lost in a socket with room");
        if answered + window <= requests {
            client.send_to(&request, address).unwrap();
        }
    }
    let cost = Cost { requests, cpu: own_cpu() - used, elapsed: began.elapsed() };
    echo.join().unwrap();
    cost
}

const SCENARIO: &str = r#"<?xml version="1.0" encoding="ISO-8859-1" ?>
<scenario name="lamps">
  <send retrans="500"><![CDATA[
NOTIFY sip:1000001@192.0.2.7:5062 SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
Route: <sip:[remote_ip]:[remote_port];lr>
Max-Forwards: 70
From: <sip:1000001@example.com>;tag=server-[call_number]
To: <sip:1000001@example.com>;tag=phone-[call_number]
Call-ID: [call_id]
CSeq: 2 NOTIFY
Contact: <sip:[remote_ip]:[remote_port]>
Event: message-summary
Subscription-State: active;expires=36000
User-Agent: SIPp
Content-Type: application/simple-message-summary
Content-Length: [len]

Messages-Waiting: yes
Message-Account: sip:1000001@example.com
Voice-Message: 1/0 (0/0)

]]></send>
  <recv response="200"/>
</scenario>
"#;

/// SIPp, which keeps one call for each dialog and needs neither a database nor a CSeq.
pub fn sipp(requests: usize) -> Cost {
    let sipp = process::program(&["sipp"], "sip-tester");
    let folder = TempDir::with_prefix("mwid-sipp-").unwrap();
    fs::write(folder.path().join("lamps.xml"), SCENARIO).unwrap();
    let phones = Phones::open(requests);
    let mut command = Command::new(sipp);
    command
        .arg(phones.address.to_string())
        .args(["-sf", "lamps.xml", "-i", "127.0.0.1", "-nostdin"])
        .args(["-m", &requests.to_string(), "-l", &WINDOW.to_string()])
        // As fast as the window allows; figures on its screen once a minute.
        .args(["-r", "100000", "-f", "60"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let (began, used) = (Instant::now(), children_cpu());
    let status = command.status().unwrap();
    assert!(status.success(), "SIPp: {status}");
    let elapsed = began.elapsed();
    Cost { requests, cpu: children_cpu() - used, elapsed }
}

/// CPU time of the processes that were started here and have ended.
fn children_cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(micros.try_into().unwrap())
}
