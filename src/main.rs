//! The `mwid` command.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use mwid::cli::{Cli, Command, Show, Switch};
use mwid::config::check::run_check;
use mwid::control::{self, client, client::ClientError};
use mwid::source::externnotify::{self, Doors};
use mwid::{config, demo, doctor, run, sql};

/// The daemon does not run: what a script must tell from a daemon that has a problem.
const NOT_RUNNING: u8 = 3;

fn main() -> ExitCode {
    // Asterisk waits for this one: before anything else is set up.
    if std::env::args_os().nth(1).is_some_and(|first| first == "externnotify") {
        return externnotify::main(std::env::args_os().skip(2), Doors::default());
    }
    let cli = Cli::parse();
    let path = cli.config.as_path();
    match cli.command {
        Command::Run => exit(run::run(path)),
        Command::Demo { json } => demo::main(json),
        Command::Externnotify { arguments } => tell(path, arguments),
        Command::Check { json } => {
            let checked = run_check(path, json);
            say(&mut io::stderr(), &checked.stderr);
            say(&mut io::stdout(), &checked.stdout);
            ExitCode::from(checked.code)
        }
        Command::Doctor { voicemail, unit, json, lines } => {
            let options = doctor::Options { config: path.to_owned(), voicemail, unit };
            let shape = if json { doctor::Shape::Json } else { doctor::Shape::Text };
            ExitCode::from(doctor::main(&options, if lines { doctor::Shape::Lines } else { shape }))
        }
        Command::Sql { apply, remove } => match sql::main(path, apply, remove) {
            Ok(text) => {
                say(&mut io::stdout(), &text);
                ExitCode::SUCCESS
            }
            Err(error) => {
                say(&mut io::stderr(), &format!("mwid: {error}\n"));
                ExitCode::FAILURE
            }
        },
        Command::Status { json } => ask(path, json, &control::Command::Status),
        Command::Show { what } => show(path, what),
        Command::Notify { user, domain, new, old, json } => {
            ask(path, json, &control::Command::Notify { user, domain, new, old })
        }
        Command::Debug { state, user, domain, json } => {
            let account = user.zip(domain).map(|(user, domain)| format!("{user}@{domain}"));
            ask(path, json, &control::Command::Debug { on: state == Switch::On, account })
        }
        Command::Watch { user, domain, json } => {
            let account = user.zip(domain).map(|(user, domain)| format!("{user}@{domain}"));
            let is_terminal = io::stdout().is_terminal();
            let shape = if is_terminal { client::Shape::Terminal } else { client::Shape::Plain };
            let shape = if json { client::Shape::Json } else { shape };
            let socket = config::control(path).socket;
            told(path, client::watch(&socket, account, shape, &mut io::stdout()))
        }
        Command::Forget { context, json } => ask(path, json, &control::Command::Forget { context }),
        Command::Drain { off, json } => ask(path, json, &control::Command::Drain { on: !off }),
        Command::Reload { json } => ask(path, json, &control::Command::Reload),
    }
}

/// Only a configuration that was named leads here, in front of the name of the command.
fn tell(path: &Path, arguments: Vec<OsString>) -> ExitCode {
    if let Err(error) = File::open(path) {
        let text = format!("mwid: cannot read {}: {error}. Nothing was sent\n", path.display());
        say(&mut io::stderr(), &text);
        return ExitCode::from(2);
    }
    let control = config::control(path);
    let doors = Doors { socket: control.externnotify, drop: control.drop };
    externnotify::main(arguments.into_iter(), doors)
}

fn show(path: &Path, what: Show) -> ExitCode {
    match what {
        Show::Account { user, domain, json } => {
            ask(path, json, &control::Command::ShowAccount { user, domain })
        }
        Show::Pending { limit, json } => ask(path, json, &control::Command::ShowPending { limit }),
        Show::Mailboxes { context, json } => {
            let socket = config::control(path).socket;
            told(path, client::mailboxes(&socket, context, json, &mut io::stdout()))
        }
        Show::Subscription { user, domain, json } => {
            ask(path, json, &control::Command::ShowSubscription { user, domain })
        }
    }
}

/// Asks the running daemon and prints its answer.
fn ask(path: &Path, json: bool, command: &control::Command) -> ExitCode {
    // A broken configuration must not keep the operator from the daemon that still runs.
    let answer = client::ask(&config::control(path).socket, command);
    let code = answer.map(|answer| {
        let text = if json { format!("{:#}", answer.data) } else { answer.text };
        say(&mut io::stdout(), &format!("{text}\n"));
        answer.code
    });
    told(path, code)
}

/// What a command that asked the daemon exits with.
fn told(path: &Path, code: Result<u8, ClientError>) -> ExitCode {
    match code {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            say(&mut io::stderr(), &format!("mwid: {error}\n"));
            if let Err(unread) = File::open(path) {
                let asked = "so the default socket was asked; name the daemon's with --config";
                let text = format!("mwid: cannot read {}: {unread}, {asked}\n", path.display());
                say(&mut io::stderr(), &text);
            }
            let absent =
                matches!(error, ClientError::NotRunning { .. } | ClientError::Stopped { .. });
            ExitCode::from(if absent { NOT_RUNNING } else { 1 })
        }
    }
}

fn exit(result: Result<(), run::RunError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&mut io::stderr(), &format!("mwid: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Prints; a reader that went away is nobody's error.
fn say(out: &mut dyn Write, text: &str) {
    let _ = out.write_all(text.as_bytes());
}
