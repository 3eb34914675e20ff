//! MariaDB and MySQL.

use std::collections::HashMap;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, OptsBuilder, Params, Pool, PoolConstraints, PoolOpts, Value};

use super::error::{StoreError, one_line};
use super::link::{Link, Server, Verb, Verdict};
use super::schema::{ASK, Dialect, Schema, Table, Values, read_row};
use super::together::padded;
use super::verbs::{Claim, ClaimAll, Claimed, Delete, Find, FindAll, Inspect, Param, group};
use super::watch::sql::{Ask, Question, Trim};
use crate::config;
use mwid_core::dialog::Row;

/// Statements that a connection keeps prepared: more than there are in `schema`.
const STATEMENTS: usize = 64;

/// A MariaDB or MySQL server, through its pool.
pub struct MySql {
    pool: Pool,
}

impl MySql {
    /// Prepares the pool; connects to nothing.
    pub(super) fn link(
        settings: &config::Database,
        server: &config::Server,
    ) -> Result<Link<Self>, StoreError> {
        let at = super::describe("MySQL", server);
        let table = Table::new(at, Dialect::MySql, settings)?;
        let opts = Self::options(settings, server);
        Ok(Link::new(Self { pool: Pool::new(opts) }, table, settings))
    }

    /// How to connect, pooled or not.
    pub(super) fn options(settings: &config::Database, server: &config::Server) -> OptsBuilder {
        let connections = settings.connections.max(1) as usize;
        // Idle connections beyond the lower bound would be closed: both bounds are the same.
        let bounds = PoolConstraints::new(connections, connections)
            .expect("both bounds are the same and not zero");
        OptsBuilder::default()
            .ip_or_hostname(server.host.clone())
            .tcp_port(server.port)
            .socket(server.socket.as_ref().map(|path| path.display().to_string()))
            .prefer_socket(false)
            .user(Some(server.user.clone()))
            .pass(server.password.as_ref().map(|password| password.reveal().to_owned()))
            .db_name(Some(server.database.clone()))
            .tcp_keepalive(Some(Duration::from_secs(30)))
            // Whoever gives up waiting for a row must not keep others locked meanwhile.
            .init(vec!["SET SESSION innodb_lock_wait_timeout = 1"])
            .stmt_cache_size(STATEMENTS)
            .pool_opts(PoolOpts::new().with_constraints(bounds).with_reset_connection(false))
    }
}

impl Server for MySql {
    type Connection = Conn;
    type Error = Error;

    async fn connect(&self) -> Result<Conn, Error> {
        self.pool.get_conn().await
    }

    async fn columns(connection: &mut Conn, look: &str) -> Result<Vec<String>, Error> {
        let result = connection.query_iter(look).await?;
        let names =
            result.columns_ref().iter().map(|column| column.name_str().into_owned()).collect();
        result.drop_result().await?;
        Ok(names)
    }

    /// Disconnecting reads what is left of an answer; from a server that hangs it must not wait
    /// for ever, for the connection keeps its place in the pool as long.
    fn discard(connection: Conn) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(Duration::from_secs(1), connection.disconnect()));
        }
    }

    /// Numbers of the MySQL and MariaDB error reference.
    fn verdict(error: &Error) -> Verdict {
        let Error::Server(error) = error else { return Verdict::Lost };
        match error.code {
            // Shutdown, network, killed or idle connection; Galera node not (yet) in its cluster.
            1040 | 1047 | 1053 | 1152..=1161 | 1184 | 1317 | 1927 | 4031 => Verdict::Lost,
            // Unknown column, definition changed, statement must be or is not prepared.
            1054 | 1412 | 1243 | 1615 => Verdict::Changed,
            1051 | 1146 => Verdict::NoTable,
            // Lock wait, deadlock (Galera's certification says so, too), checked read.
            1020 | 1205 | 1213 => Verdict::Conflict,
            _ => Verdict::Refused(None),
        }
    }
}

pub(super) fn bind(params: Vec<Param<'_>>) -> Params {
    if params.is_empty() {
        return Params::Empty;
    }
    let value = |param| match param {
        Param::Text(text) => Value::from(text),
        Param::Number(number) => Value::from(number),
    };
    Params::Positional(params.into_iter().map(value).collect())
}

impl Verb<MySql> for Find {
    type Answer = Vec<Row>;

    async fn ask(&self, connection: &mut Conn, schema: &Schema) -> Result<Vec<Row>, Error> {
        let params = bind(schema.find_params(self));
        let rows: Vec<mysql_async::Row> = connection.exec(schema.find.as_str(), params).await?;
        Ok(rows.into_iter().map(|mut row| sure(read_row(&mut row, schema.flavour))).collect())
    }
}

impl Verb<MySql> for FindAll {
    type Answer = Vec<Vec<Row>>;

    async fn ask(&self, connection: &mut Conn, schema: &Schema) -> Result<Self::Answer, Error> {
        let count = self.accounts.len();
        let sql = schema.find_all.get(count).expect("as many as go together");
        let params = bind(schema.find_all_params(self));
        let rows: Vec<mysql_async::Row> = connection.exec(sql, params).await?;
        let asked = |mut row: mysql_async::Row| {
            (sure(row.number(ASK)).unwrap_or(-1), sure(read_row(&mut row, schema.flavour)))
        };
        Ok(group(count, rows.into_iter().map(asked)))
    }
}

impl<Q: Question> Verb<MySql> for Ask<Q> {
    type Answer = Vec<Q::Item>;

    async fn ask(&self, connection: &mut Conn, schema: &Schema) -> Result<Vec<Q::Item>, Error> {
        let (sql, params) = (self.0.sql(schema), bind(self.0.params()));
        let rows: Vec<mysql_async::Row> = connection.exec(sql, params).await?;
        Ok(rows.into_iter().map(|mut row| sure(Q::read(&mut row, schema))).collect())
    }
}

impl Verb<MySql> for Trim {
    type Answer = u64;

    async fn ask(&self, connection: &mut Conn, schema: &Schema) -> Result<u64, Error> {
        connection.exec_drop(self.sql(schema), bind(self.params())).await?;
        Ok(connection.affected_rows())
    }
}

fn sure<T>(read: Result<T, std::convert::Infallible>) -> T {
    match read {
        Ok(value) => value,
        Err(never) => match never {},
    }
}

impl Verb<MySql> for Claim {
    type Answer = Claimed;

    async fn ask(&self, connection: &mut Conn, schema: &Schema) -> Result<Claimed, Error> {
        let params = bind(schema.claim_params(self));
        connection.exec_drop(schema.claim.as_str(), params).await?;
        if connection.affected_rows() > 0 {
            // The server says 0 when the table has triggers, whatever the number is, but keeps it;
            // and Kamailio's counting may reach 0 without any.
            let row = match connection.last_insert_id() {
                Some(row) => row,
                None => connection.query_first("SELECT LAST_INSERT_ID()").await?.unwrap_or(0),
            };
            return Ok(Claimed::Wire(schema.flavour.wire(row.cast_signed())));
        }
        let params = bind(schema.exhausted_params(&self.identity));
        let found: Option<i64> = connection.exec_first(schema.exhausted.as_str(), params).await?;
        Ok(if found.is_some() { Claimed::Exhausted } else { Claimed::Gone })
    }
}

impl Verb<MySql> for ClaimAll {
    type Answer = Vec<Option<Claimed>>;

    async fn ask(&self, connection: &mut Conn, schema: &Schema) -> Result<Self::Answer, Error> {
        let claimed = async {
            match raise(connection, schema, &self.claims).await? {
                Some(rows) => Ok(rows.into_iter().map(Some).collect()),
                None => raise_anew(connection, schema, &self.claims).await,
            }
        };
        let rows: Vec<Option<i64>> = match claimed.await {
            // One of the rows is locked: that is no business of the others.
            Err(error) if MySql::verdict(&error) == Verdict::Conflict => {
                return Ok(vec![None; self.claims.len()]);
            }
            rows => rows?,
        };
        let wire = |row| Claimed::Wire(schema.flavour.wire(row));
        Ok(rows.into_iter().map(|row| row.map(wire)).collect())
    }
}

/// Raises all rows by one statement; what they have then. `None` when one of them is not what was read, or
/// can count no further.
async fn raise(
    connection: &mut Conn,
    schema: &Schema,
    claims: &[Claim],
) -> Result<Option<Vec<i64>>, Error> {
    let Some((params, rows)) = schema.claim_all_params(claims) else { return Ok(None) };
    let sql = schema.claim_all.get(padded(claims.len())).expect("as many as go together");
    connection.exec_drop(sql, bind(params)).await?;
    Ok((connection.affected_rows() == rows.len() as u64).then_some(rows))
}

/// Reads the rows again, and raises those that are there and can count further. The others are claimed
/// alone, and all are when a row was changed even now.
async fn raise_anew(
    connection: &mut Conn,
    schema: &Schema,
    claims: &[Claim],
) -> Result<Vec<Option<i64>>, Error> {
    let sql = schema.numbers.get(claims.len()).expect("as many as go together");
    let who = claims.iter().flat_map(|claim| claim.identity.params()).collect();
    let read: Vec<mysql_async::Row> = connection.exec(sql, bind(who)).await?;
    let number = |row: &mut mysql_async::Row, place| sure(row.number(place));
    let numbers: HashMap<Option<i64>, i64> = read
        .into_iter()
        .map(|mut row| (number(&mut row, 0), number(&mut row, 1).unwrap_or(0)))
        .collect();
    let anew = |(place, claim): (usize, &Claim)| {
        let row = numbers.get(&Some(claim.identity.id())).filter(|row| **row < schema.highest())?;
        let claim = Claim { read: Some(schema.flavour.wire(*row)), ..claim.clone() };
        schema.next(&claim).map(|_| (place, claim))
    };
    let (places, anew): (Vec<_>, Vec<_>) = claims.iter().enumerate().filter_map(anew).unzip();
    let mut all = vec![None; claims.len()];
    if let Some(rows) = raise(connection, schema, &anew).await? {
        places.into_iter().zip(rows).for_each(|(place, row)| all[place] = Some(row));
    }
    Ok(all)
}

impl Verb<MySql> for Delete {
    type Answer = bool;

    async fn ask(&self, connection: &mut Conn, schema: &Schema) -> Result<bool, Error> {
        connection.exec_drop(schema.delete.as_str(), bind(self.identity.params())).await?;
        Ok(connection.affected_rows() > 0)
    }
}

impl Verb<MySql> for Inspect {
    type Answer = (String, mwid_core::dialog::Flavour);

    async fn ask(&self, connection: &mut Conn, schema: &Schema) -> Result<Self::Answer, Error> {
        let version: Option<Vec<u8>> = connection.query_first("SELECT VERSION()").await?;
        let version = String::from_utf8_lossy(&version.unwrap_or_default()).into_owned();
        // 10.11.6-MariaDB-0+deb12u1
        let server = match version.split_once("-MariaDB") {
            Some((number, _)) => format!("MariaDB {number}"),
            None => format!("MySQL {version}"),
        };
        Ok((one_line(&server, 80), schema.flavour))
    }
}

impl Values for mysql_async::Row {
    type Error = std::convert::Infallible;

    fn text(&mut self, place: usize) -> Result<Option<String>, Self::Error> {
        let lossy = |bytes: Vec<u8>| {
            String::from_utf8(bytes)
                .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
        };
        Ok(self.take::<Value, _>(place).and_then(|value| match value {
            Value::Bytes(bytes) => Some(lossy(bytes)),
            Value::NULL => None,
            other => Some(other.as_sql(true).trim_matches('\'').to_owned()),
        }))
    }

    fn number(&mut self, place: usize) -> Result<Option<i64>, Self::Error> {
        Ok(self.as_ref(place).and_then(|value| match value {
            Value::Int(number) => Some(*number),
            Value::UInt(number) => i64::try_from(*number).ok(),
            Value::Bytes(bytes) => str::from_utf8(bytes).ok()?.trim().parse().ok(),
            _ => None,
        }))
    }
}
