//! `mwid run`: the daemon as a process, with its log and its signals.

use std::io;
use std::path::Path;

use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{self, ConfigErrors};
use crate::control::{Command, ask};
use crate::daemon::{Daemon, Requests, StartError};
use crate::log;
use crate::service_manager::ServiceManager;

/// Why the daemon does not run.
#[derive(Debug, Error)]
pub enum RunError {
    /// The configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// A socket cannot be had.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The runtime cannot be had.
    #[error("cannot start: {0}")]
    Runtime(#[from] io::Error),
}

/// Runs the daemon until SIGTERM or SIGINT.
///
/// # Errors
/// [`RunError`] when it does not start.
pub fn run(path: &Path) -> Result<(), RunError> {
    log::start();
    let loaded = config::load(path)?;
    for warning in &loaded.warnings {
        tracing::warn!("{}", config::located(path, warning.line, &warning.to_string()));
    }
    // One thread: several cost a third more CPU for the same NOTIFYs, and the spool has its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let (mut stop, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let hangup = signal(SignalKind::hangup())?;
        let manager = ServiceManager::from_env().unwrap_or_else(|error| {
            tracing::warn!("NOTIFY_SOCKET cannot be used, the service manager is told nothing: {error}");
            ServiceManager::default()
        });
        let (daemon, requests) = Daemon::start(loaded.config, path.to_owned())?;
        tracing::info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), socket = %daemon.local(), "mwid runs");
        let reload = tokio::spawn(reload_on(hangup, requests));
        daemon
            .report_to(manager)
            .run(async {
                tokio::select! {
                    _ = stop.recv() => {}
                    _ = interrupt.recv() => {}
                }
            })
            .await;
        reload.abort();
        Ok(())
    });
    // A name that is still being resolved may take a minute: nobody waits for it any more.
    runtime.shutdown_background();
    ended
}

async fn reload_on(mut hangup: tokio::signal::unix::Signal, requests: Requests) {
    while hangup.recv().await.is_some() {
        // The loop logs what came of it.
        if ask(&requests, Command::Reload).await.is_none() {
            return;
        }
    }
}
