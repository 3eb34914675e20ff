//! PostgreSQL and what speaks its protocol.

use std::error::Error as _;
use std::time::Duration;

use deadpool_postgres::{
    Client, ClientWrapper, Hook, HookError, Manager, ManagerConfig, Pool, PoolError,
    RecyclingMethod,
};
use mwid_core::dialog::{Flavour, Row};
use mwid_core::mailbox::Account;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Error, NoTls};

use super::error::{StoreError, one_line};
use super::link::{Link, Server, Verb, Verdict};
use super::schema::{ASK, Dialect, Schema, Table, Values, read_row};
use super::verbs::{Claim, ClaimAll, Claimed, Delete, Find, FindAll, Inspect, Param, group};
use super::watch::sql::{Ask, Question, Trim};
use crate::config;

/// A PostgreSQL server, through its pool.
pub struct Postgres {
    pool: Pool,
}

impl Postgres {
    /// Prepares the pool; connects to nothing.
    pub(super) fn link(
        settings: &config::Database,
        server: &config::Server,
    ) -> Result<Link<Self>, StoreError> {
        let table = Table::new(super::describe("PostgreSQL", server), Dialect::Postgres, settings)?;
        let opts = Self::options(settings, server);
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool = Pool::builder(Manager::from_config(opts, NoTls, recycling))
            .max_size(settings.connections.max(1) as usize)
            .post_create(Hook::async_fn(|client, _| Box::pin(patience(client))))
            .build()
            .expect("a pool without timeouts of its own needs no runtime");
        Ok(Link::new(Self { pool }, table, settings))
    }

    /// How to connect, pooled or not.
    pub(super) fn options(
        settings: &config::Database,
        server: &config::Server,
    ) -> tokio_postgres::Config {
        let mut opts = tokio_postgres::Config::new();
        match &server.socket {
            Some(folder) => opts.host_path(folder),
            None => opts.host(&server.host),
        };
        opts.port(server.port)
            .user(&server.user)
            .dbname(&server.database)
            .application_name("mwid")
            .connect_timeout(settings.timeout)
            .keepalives_idle(Duration::from_secs(30))
            .keepalives_interval(Duration::from_secs(10))
            .keepalives_retries(3);
        if let Some(password) = &server.password {
            opts.password(password.reveal());
        }
        opts
    }
}

/// Whoever gives up waiting for a row must not keep others locked meanwhile; and before the server looks
/// for a deadlock, after a second, so that it is never the presence server that loses one.
async fn patience(client: &ClientWrapper) -> Result<(), HookError> {
    client.batch_execute("SET lock_timeout = '500ms'").await.map_err(HookError::Backend)
}

impl Server for Postgres {
    type Connection = Client;
    type Error = PoolError;

    async fn connect(&self) -> Result<Client, PoolError> {
        self.pool.get().await
    }

    async fn columns(connection: &mut Client, look: &str) -> Result<Vec<String>, PoolError> {
        let statement = connection.prepare(look).await?;
        Ok(statement.columns().iter().map(|column| column.name().to_owned()).collect())
    }

    /// Left in the pool, a connection that is cut off would be handed out again and again.
    fn discard(connection: Client) {
        drop(Client::take(connection));
    }

    fn verdict(error: &PoolError) -> Verdict {
        let PoolError::Backend(error) = error else { return Verdict::Lost };
        let Some(server) = error.as_db_error() else {
            // A value that would not convert is an error of this side; all else is the wire.
            return if error.is_closed() || is_io(error) {
                Verdict::Lost
            } else {
                Verdict::Refused(None)
            };
        };
        match server.code() {
            &SqlState::UNDEFINED_TABLE => Verdict::NoTable,
            // An unknown column; a plan or statement that is no longer good.
            &SqlState::UNDEFINED_COLUMN
            | &SqlState::FEATURE_NOT_SUPPORTED
            | &SqlState::INVALID_SQL_STATEMENT_NAME
            | &SqlState::DUPLICATE_PSTATEMENT => Verdict::Changed,
            &SqlState::T_R_SERIALIZATION_FAILURE
            | &SqlState::T_R_DEADLOCK_DETECTED
            | &SqlState::LOCK_NOT_AVAILABLE => Verdict::Conflict,
            // Classes 08 (connection), 53 (resources), 57 (operator), 58 (system), XX (internal).
            code if ["08", "53", "57", "58", "XX"]
                .iter()
                .any(|class| code.code().starts_with(class)) =>
            {
                Verdict::Lost
            }
            _ => Verdict::Refused(server.column().map(str::to_owned)),
        }
    }
}

fn is_io(error: &Error) -> bool {
    error.source().is_some_and(|source| source.is::<std::io::Error>())
}

pub(super) fn bind<'a>(params: &'a [Param<'a>]) -> Vec<&'a (dyn ToSql + Sync)> {
    params
        .iter()
        .map(|param| match param {
            Param::Text(text) => text as &(dyn ToSql + Sync),
            Param::Number(number) => number as &(dyn ToSql + Sync),
        })
        .collect()
}

/// Runs one statement, prepared once per connection.
pub(super) async fn query(
    connection: &Client,
    sql: &str,
    params: &[Param<'_>],
) -> Result<Vec<tokio_postgres::Row>, PoolError> {
    let statement = connection.prepare_cached(sql).await?;
    Ok(connection.query(&statement, &bind(params)).await?)
}

impl Verb<Postgres> for Find {
    type Answer = Vec<Row>;

    async fn ask(&self, connection: &mut Client, schema: &Schema) -> Result<Vec<Row>, PoolError> {
        let rows = query(connection, &schema.find, &schema.find_params(self)).await?;
        Ok(rows
            .iter()
            .map(|mut row| read_row(&mut row, schema.flavour))
            .collect::<Result<_, _>>()?)
    }
}

impl Verb<Postgres> for FindAll {
    type Answer = Vec<Vec<Row>>;

    async fn ask(
        &self,
        connection: &mut Client,
        schema: &Schema,
    ) -> Result<Self::Answer, PoolError> {
        let Self { accounts, unix, also } = self;
        let sql = schema.find_all.get(accounts.len()).expect("as many as go together");
        let each = |part: fn(&Account) -> &str| accounts.iter().map(part).collect::<Vec<_>>();
        let [uris, users, domains] = [Account::as_str, Account::user, Account::domain].map(each);
        let statement = connection.prepare_cached(sql).await?;
        let params: [&(dyn ToSql + Sync); 6] = [&uris, &users, &domains, also, unix, &schema.limit];
        let rows = connection.query(&statement, &params).await?;
        let asked = |mut row: &tokio_postgres::Row| {
            Ok((row.number(ASK)?.unwrap_or(-1), read_row(&mut row, schema.flavour)?))
        };
        let rows = rows.iter().map(asked).collect::<Result<Vec<_>, Error>>()?;
        Ok(group(accounts.len(), rows))
    }
}

impl<Q: Question> Verb<Postgres> for Ask<Q> {
    type Answer = Vec<Q::Item>;

    async fn ask(
        &self,
        connection: &mut Client,
        schema: &Schema,
    ) -> Result<Vec<Q::Item>, PoolError> {
        let rows = query(connection, self.0.sql(schema), &self.0.params()).await?;
        Ok(rows.iter().map(|mut row| Q::read(&mut row, schema)).collect::<Result<_, _>>()?)
    }
}

impl Verb<Postgres> for Trim {
    type Answer = u64;

    async fn ask(&self, connection: &mut Client, schema: &Schema) -> Result<u64, PoolError> {
        let statement = connection.prepare_cached(self.sql(schema)).await?;
        let params = self.params();
        Ok(connection.execute(&statement, &bind(&params)).await?)
    }
}

impl Verb<Postgres> for Claim {
    type Answer = Claimed;

    async fn ask(&self, connection: &mut Client, schema: &Schema) -> Result<Claimed, PoolError> {
        let rows = query(connection, &schema.claim, &schema.claim_params(self)).await?;
        if let Some(row) = rows.first() {
            return Ok(Claimed::Wire(schema.flavour.wire(row.try_get(0)?)));
        }
        let params = schema.exhausted_params(&self.identity);
        let found = query(connection, &schema.exhausted, &params).await?;
        Ok(if found.is_empty() { Claimed::Gone } else { Claimed::Exhausted })
    }
}

impl Verb<Postgres> for ClaimAll {
    type Answer = Vec<Option<Claimed>>;

    async fn ask(
        &self,
        connection: &mut Client,
        schema: &Schema,
    ) -> Result<Self::Answer, PoolError> {
        let mut all = vec![None; self.claims.len()];
        let sql = schema.claim_all.get(self.claims.len()).expect("as many as go together");
        // In the order of their ids: two crowds that meet do not wait for each other.
        let mut order: Vec<usize> = (0..self.claims.len()).collect();
        order.sort_unstable_by_key(|place| self.claims[*place].identity.id());
        let claims = || order.iter().map(|place| &self.claims[*place]);
        let text = |place: usize| claims().map(move |claim| claim.identity.texts()[place]);
        let ids: Vec<i64> = claims().map(|claim| claim.identity.id()).collect();
        let [call_ids, from_tags, to_tags] = [0, 1, 2].map(|place| text(place).collect::<Vec<_>>());
        let floors: Vec<i64> = claims().map(|claim| schema.floor(claim.above)).collect();
        let statement = connection.prepare_cached(sql).await?;
        let params: [&(dyn ToSql + Sync); 6] =
            [&ids, &call_ids, &from_tags, &to_tags, &floors, &schema.highest()];
        let rows = match connection.query(&statement, &params).await.map_err(PoolError::from) {
            // One of the rows is locked: that is no business of the others.
            Err(error) if Postgres::verdict(&error) == Verdict::Conflict => return Ok(all),
            rows => rows?,
        };
        for row in rows {
            let (place, number): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            let place = usize::try_from(place).ok().and_then(|place| order.get(place));
            if let Some(claimed) = place.and_then(|place| all.get_mut(*place)) {
                *claimed = Some(Claimed::Wire(schema.flavour.wire(number)));
            }
        }
        Ok(all)
    }
}

impl Verb<Postgres> for Delete {
    type Answer = bool;

    async fn ask(&self, connection: &mut Client, schema: &Schema) -> Result<bool, PoolError> {
        let statement = connection.prepare_cached(&schema.delete).await?;
        let params = self.identity.params();
        Ok(connection.execute(&statement, &bind(&params)).await? > 0)
    }
}

impl Verb<Postgres> for Inspect {
    type Answer = (String, Flavour);

    async fn ask(
        &self,
        connection: &mut Client,
        schema: &Schema,
    ) -> Result<Self::Answer, PoolError> {
        let row = connection.query_one("SELECT version()", &[]).await?;
        let version: String = row.try_get(0)?;
        // PostgreSQL 15.8 (Debian 15.8-0+deb12u1) on x86_64-pc-linux-gnu, compiled by …
        let server = version.split(" (").next().unwrap_or(&version);
        let server = server.split(" on ").next().unwrap_or(server);
        Ok((one_line(server, 80), schema.flavour))
    }
}

impl Values for &tokio_postgres::Row {
    type Error = Error;

    fn text(&mut self, place: usize) -> Result<Option<String>, Error> {
        Ok(self.try_get::<_, Option<Lossy>>(place)?.map(|text| text.0))
    }

    fn number(&mut self, place: usize) -> Result<Option<i64>, Error> {
        self.try_get(place)
    }
}

/// Text that arrives as bytes and may be no UTF-8.
pub(super) struct Lossy(pub(super) String);

impl<'a> FromSql<'a> for Lossy {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(String::from_utf8_lossy(raw).into_owned()))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::BYTEA
    }
}
