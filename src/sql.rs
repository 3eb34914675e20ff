//! `mwid sql`: prints, installs or removes the triggers that let mwid see new subscriptions at once,
//! and makes the tables of a cluster and of mwid's own presence agent.

use std::io;
use std::path::Path;

use thiserror::Error;

use crate::cluster;
use crate::config::{self, ConfigErrors};
use crate::dialogs::install::{self, InstallError};
use crate::dialogs::{Script, StoreError, agent};

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
    let plan = Plan {
        // What an agent of our own writes nobody needs to tell it, unless it is another's.
        triggers: config.agent.listen.is_none() || cluster.is_some(),
        table: config.agent.listen.is_some(),
        settings: &config.database,
        cluster,
    };
    match (apply, remove) {
        (true, _) => plan.apply(),
        (false, true) => plan.remove(),
        (false, false) => plan.print(),
    }
}

/// What belongs into the databases of a configuration.
struct Plan<'a> {
    /// The triggers that tell of new subscriptions.
    triggers: bool,
    /// The table of mwid's own presence agent.
    table: bool,
    settings: &'a config::Database,
    /// The database of the cluster's tables.
    cluster: Option<&'a config::Database>,
}

impl Plan<'_> {
    fn print(&self) -> Result<String, SqlError> {
        let mut text = String::new();
        if self.table {
            text.push_str(&Script::Agent.text(self.settings)?);
        }
        if self.triggers {
            text.push_str(&Script::Install.text(self.settings)?);
        }
        if let Some(cluster) = self.cluster {
            let at = &cluster.url;
            text.push_str(&format!("\n-- The tables of the cluster, in {at}:\n--\n"));
            text.push_str(&Script::Cluster.text(cluster)?);
        }
        Ok(text)
    }

    fn apply(&self) -> Result<String, SqlError> {
        let (url, table) = (&self.settings.url, &self.settings.table);
        let mut said = String::new();
        if self.table {
            agent::prepare(self.settings)?;
            run(Script::Agent, self.settings)?;
            said.push_str(&format!("The table {table} of the agent is in {url}.\n"));
        }
        if self.triggers {
            run(Script::Install, self.settings)?;
            said.push_str(&format!(
                "Installed on table {table} of {url}. A running mwid uses it within half a minute; \
                 `mwid status` says so.\n"
            ));
        }
        if let Some(cluster) = self.cluster {
            run(Script::Cluster, cluster)?;
            said.push_str(&format!("The tables of the cluster are in {}.\n", cluster.url));
        }
        Ok(said)
    }

    fn remove(&self) -> Result<String, SqlError> {
        let (url, table) = (&self.settings.url, &self.settings.table);
        run(Script::Remove, self.settings)?;
        let mut said = format!("Removed from table {table} of {url}.\n");
        if self.table {
            said.push_str("The table of the agent stays: it holds the subscriptions.\n");
        }
        if let Some(cluster) = self.cluster {
            said.push_str(&format!(
                "The tables of the cluster stay in {}: the others may use them.\n",
                cluster.url
            ));
        }
        Ok(said)
    }
}

fn run(script: Script, settings: &config::Database) -> Result<(), SqlError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(install::run(script, settings))?)
}
