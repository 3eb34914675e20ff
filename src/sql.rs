//! `mwid sql`: prints, installs or removes the triggers that let mwid see new subscriptions at once,
//! and makes the tables of a cluster.

use std::io;
use std::path::Path;

use thiserror::Error;

use crate::cluster;
use crate::config::{self, ConfigErrors};
use crate::dialogs::install::{self, InstallError};
use crate::dialogs::{Script, StoreError};

/// Why it was not done.
#[derive(Debug, Error)]
pub enum SqlError {
    /// The configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The name of the table is refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database does not do it.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// The runtime cannot be had.
    #[error("cannot start: {0}")]
    Runtime(#[from] io::Error),
}

/// Prints the script for the configured database, or runs it (`apply`), or the one that takes it
/// away (`remove`). Gives what is to be printed.
///
/// # Errors
/// [`SqlError`]
pub fn main(path: &Path, apply: bool, remove: bool) -> Result<String, SqlError> {
    let config = config::load(path)?.config;
    let cluster = cluster::Settings::of(&config);
    let cluster = cluster.as_ref().map(cluster::Settings::database);
    let settings = config.database;
    if !apply && !remove {
        let mut text = Script::Install.text(&settings)?;
        if let Some(cluster) = cluster {
            let at = &cluster.url;
            text.push_str(&format!("\n-- The tables of the cluster, in {at}:\n--\n"));
            text.push_str(&Script::Cluster.text(cluster)?);
        }
        return Ok(text);
    }
    let script = if apply { Script::Install } else { Script::Remove };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(install::run(script, &settings))?;
    let (url, table) = (&settings.url, &settings.table);
    let mut said = if apply {
        format!(
            "Installed on table {table} of {url}. A running mwid uses it within half a minute; \
             `mwid status` says so.\n"
        )
    } else {
        format!("Removed from table {table} of {url}.\n")
    };
    if let Some(cluster) = cluster {
        let at = &cluster.url;
        if apply {
            runtime.block_on(install::run(Script::Cluster, cluster))?;
            said.push_str(&format!("The tables of the cluster are in {at}.\n"));
        } else {
            said.push_str(&format!(
                "The tables of the cluster stay in {at}: the others may use them.\n"
            ));
        }
    }
    Ok(said)
}
