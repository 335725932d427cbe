//! Reaching the database: settings of every connection, and a look at the server.

use std::{io, sync::Arc, time::Duration};

use secrecy::ExposeSecret as _;
use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, PgConnection, Row as _,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::timeout;
use url::Url;

use super::{Store, StoreError, StoreOptions, trust::Trust};

/// The oldest server that has what the migrations use (`nulls not distinct`).
const OLDEST_SERVER: i32 = 150_000;

/// How long a connection may take before it counts as no answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What `database.url` may carry as parameters. The driver would log any other with
/// its value, which may be a mistyped password.
const PARAMETERS: [&str; 20] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
    "target_session_attrs",
    "connect_timeout",
];

/// What every connection begins with.
///
/// What the server calls committed must survive its crash, whatever its own settings say:
/// the work goes on from there, and what a server forgot behind our back would never be read
/// again.
///
/// And it shall notice within seconds that a client is gone, even while its statement waits
/// for a lock, so that a take-over need not wait for a dead process. Servers on systems that
/// cannot do this refuse the setting, hence the exception.
const FIRST_OF_ALL: &str = "do $$ begin \
    if current_setting('synchronous_commit') = 'off' then \
        perform set_config('synchronous_commit', 'local', false); \
    end if; \
    begin \
        perform set_config('client_connection_check_interval', '2s', false); \
    exception when others then null; end; end $$";

pub(super) async fn connect(options: &StoreOptions) -> Result<Store, StoreError> {
    let connect = connect_options(options)?;
    // One connection beside the pool: the pool would hide why the server does not answer.
    timeout(PATIENCE, look_at_the_server(&connect))
        .await
        .map_err(|_| sqlx::Error::Io(io::ErrorKind::TimedOut.into()))??;

    let trust = Trust::default();
    let trusted = trust.clone();
    let pool = PgPoolOptions::new()
        .max_connections(options.max_connections.max(1))
        .acquire_timeout(PATIENCE)
        .after_connect(|connection, _| {
            Box::pin(async move { connection.execute(FIRST_OF_ALL).await.map(drop) })
        })
        .before_acquire(move |_, connection| {
            let trusted = trusted.has(connection.age);
            Box::pin(async move { Ok(trusted) })
        })
        .connect_lazy_with(connect);
    Ok(Store {
        pool,
        schema: options.schema.clone(),
        trust,
        unlogged: Arc::default(),
        phones: Arc::default(),
        history: Arc::default(),
        privacy: Arc::default(),
        forgotten: Arc::default(),
        token_key: None,
    })
}

fn connect_options(options: &StoreOptions) -> Result<PgConnectOptions, StoreError> {
    let refuse = |reason: String| StoreError::Url { reason };
    let url = Url::parse(options.url.expose_secret()).map_err(|error| refuse(error.to_string()))?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err(refuse("it does not start with postgres://".to_owned()));
    }
    for (key, _) in url.query_pairs() {
        if !PARAMETERS.contains(&&*key) && !key.starts_with("options[") {
            return Err(refuse(format!("it has an unknown parameter `{key}`")));
        }
    }
    let connect = PgConnectOptions::from_url(&url)
        .map_err(|_| refuse("one of its parameters has an impossible value".to_owned()))?;
    Ok(connect
        .application_name(&options.application_name)
        .options([
            ("search_path", format!("\"{}\"", options.schema)),
            // A writer that hangs in mid-transaction must not block a take-over for long.
            ("idle_in_transaction_session_timeout", "30s".to_owned()),
            ("client_min_messages", "warning".to_owned()),
            // Statements here are short or plain; compiling them never pays.
            ("jit", "off".to_owned()),
        ])
        .disable_statement_logging())
}

async fn look_at_the_server(connect: &PgConnectOptions) -> Result<(), StoreError> {
    let mut connection = PgConnection::connect_with(connect).await?;
    let row = sqlx::query(
        "select current_setting('server_version_num')::int, \
                current_setting('server_version'), \
                current_setting('server_encoding')",
    )
    .fetch_one(&mut connection)
    .await?;
    if row.try_get::<i32, _>(0)? < OLDEST_SERVER {
        return Err(StoreError::ServerTooOld { version: row.try_get(1)? });
    }
    let encoding: String = row.try_get(2)?;
    if encoding != "UTF8" {
        return Err(StoreError::Encoding { encoding });
    }
    connection.close().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        let options = StoreOptions {
            url: url.to_owned().into(),
            schema: "bitrix24".parse().unwrap(),
            max_connections: 1,
            application_name: "test".to_owned(),
        };
        connect_options(&options).unwrap_err().to_string()
    }

    #[test]
    fn a_refused_url_is_never_repeated() {
        for url in [
            "s3cret",
            "postgres://u:s3cret@host:port/db",
            "mysql://u:s3cret@host/db",
            "postgres://u:x@host/db?passwort=s3cret",
            "postgres://u:x@host/db?port=s3cret",
        ] {
            let text = refusal(url);
            assert!(text.contains("database.url") && !text.contains("s3cret"), "{text}");
        }
    }
}
