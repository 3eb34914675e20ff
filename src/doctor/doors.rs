//! The other doors, those that are configured: the manager, HTTP, the agent, the ways that publish, the
//! webhook.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use url::Url;

use super::Report;
use super::proxy::options;
use crate::config::{Config, HttpUrl, MiUrl};
use crate::shipped;
use crate::source::http;
use crate::transport::resolve;

/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) fn look(config: &Config, runs: bool, report: &mut Report) {
    manager(config, report);
    http_door(config, runs, report);
    agent(config, runs, report);
    match &config.opensips_mi.url {
        Some(MiUrl::Http(url)) => web("opensips-mi", url, report),
        Some(MiUrl::Fifo(path) | MiUrl::Unix(path)) => line("opensips-mi", path, report),
        // A datagram that is no command is not answered: nothing to be learnt from one.
        Some(MiUrl::Udp(name)) => match resolve(&name.host, name.port) {
            Ok(_) => report.ok(
                "opensips-mi",
                format!("{name} has an address; it is asked when something is published"),
            ),
            Err(error) => {
                report.fail("opensips-mi", format!("{name}: {error}"), "[opensips-mi] url")
            }
        },
        None => {}
    }
    let urls = [
        ("kamailio-rpc", &config.kamailio_rpc.url),
        ("sipx publisher", &config.sipx.publisher),
        ("sipx voicemail", &config.sipx.voicemail),
        ("webhook", &config.webhook.url),
    ];
    for (check, url) in urls {
        if let Some(url) = url {
            web(check, url, report);
        }
    }
}

fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in resolve(host, port)? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Asterisk greets whoever connects; nobody logs in.
fn manager(config: &Config, report: &mut Report) {
    let Some(host) = &config.ami.host else { return };
    let greeting = || -> io::Result<String> {
        let mut stream = connect(&host.host, host.port)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut bytes = [0; 64];
        let length = stream.read(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes[..length]).lines().next().unwrap_or_default().to_owned())
    };
    match greeting() {
        Ok(said) if said.starts_with("Asterisk Call Manager") => {
            report.ok("manager", format!("{host} greets: {said}"));
        }
        Ok(said) => {
            let text = format!("{host} is no Asterisk manager: it says {said:?}");
            report.fail("manager", text, "[ami] host is the bindaddr and port of manager.conf");
        }
        Err(error) => report.fail(
            "manager",
            format!("{host}: {error}"),
            format!(
                "enabled = yes and bindaddr in manager.conf; {} has the user",
                shipped::path("etc/asterisk/manager.conf")
            ),
        ),
    }
}

fn http_door(config: &Config, runs: bool, report: &mut Report) {
    if let Err(error) = http::check(&config.http) {
        return report.fail("http", error.to_string(), "mend tls_cert and tls_key of [http]");
    }
    for address in config.http.listen.iter().filter(|_| runs) {
        let to = reachable(*address);
        match TcpStream::connect_timeout(&to, PATIENCE) {
            Ok(_) => report.ok("http", format!("{address} is open")),
            Err(error) => report.fail(
                "http",
                format!("nobody can connect to {address}: {error}"),
                "mwid reload, and see its log: another program may have the port",
            ),
        }
    }
}

fn agent(config: &Config, runs: bool, report: &mut Report) {
    let Some(listen) = config.agent.listen.as_ref().filter(|_| runs) else { return };
    let address = resolve(&listen.host, listen.port).ok().and_then(|all| all.into_iter().next());
    let Some(address) = address else {
        return report.fail("agent", format!("{listen} has no address"), "[agent] listen");
    };
    match options(reachable(address), None) {
        Ok(answer) => {
            report.ok(
                "agent",
                format!("{listen} answers OPTIONS with {} {}", answer.code, answer.reason),
            );
        }
        Err(error) => report.fail(
            "agent",
            format!("{listen} does not answer OPTIONS: {error}"),
            "mwid status; does a firewall stand between?",
        ),
    }
}

/// One who listens everywhere is asked on loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Whether somebody listens; what it says to a request, only a request tells.
fn web(check: &str, url: &HttpUrl, report: &mut Report) {
    let parsed = Url::parse(&url.with_query("")).ok();
    let place = parsed.as_ref().and_then(|it| Some((it.host_str()?, it.port_or_known_default()?)));
    let Some((host, port)) = place else {
        return report.warn(check, format!("{url} names no host"), "write http://host:port/path");
    };
    match connect(host.trim_matches(['[', ']']), port) {
        Ok(_) => report.ok(check, format!("{url}: somebody listens")),
        Err(error) => report.fail(
            check,
            format!("{url}: {error}"),
            "does it run, listens it there, and does a firewall stand between?",
        ),
    }
}

/// A FIFO or socket of OpenSIPS, which must be writable.
fn line(check: &str, path: &Path, report: &mut Report) {
    use nix::unistd::{AccessFlags, access};
    let at = path.display();
    match access(path, AccessFlags::W_OK) {
        Ok(()) => report.ok(check, format!("{at} is there and may be written")),
        Err(error) => report.fail(
            check,
            format!("{at}: {error}"),
            format!(
                "does OpenSIPS run, and may mwid's group write it? See {}",
                shipped::path("etc/opensips/publish.cfg")
            ),
        ),
    }
}
