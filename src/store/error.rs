//! What can go wrong with the database, and whose turn it then is.

use std::{fmt, io, ops::Deref};

use sqlx::{error::DatabaseError, migrate::MigrateError};

use super::SchemaName;

/// A failure of the store. Neither the text nor the chain of sources holds the
/// database's URL or password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// `database.url` is no URL of a PostgreSQL database.
    #[error(
        "`database.url` cannot be read ({reason}); it must look like postgres://user@host/database"
    )]
    Url {
        /// What is wrong with it, without the URL.
        reason: String,
    },
    /// `database.schema` is no name that the mirror accepts.
    #[error("`database.schema` must not be `{name}`: {reason}")]
    SchemaName {
        /// The refused name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The server does not answer, is starting, shutting down, full, or only a standby.
    #[error("the database does not answer; check that the server of `database.url` is running")]
    Unavailable(#[source] DriverError),
    /// The server does not let us in, or has no such database.
    #[error(
        "the database refuses the connection; correct user, password or name in `database.url`"
    )]
    Refused(#[source] DriverError),
    /// The user of `database.url` lacks a right.
    #[error("the user of `database.url` lacks a right; grant it, or use another user")]
    Denied(#[source] DriverError),
    /// PostgreSQL is too old.
    #[error("the database server is version {version}; b24mirror needs PostgreSQL 15 or newer")]
    ServerTooOld {
        /// The version as the server calls it.
        version: String,
    },
    /// The database cannot hold every character of a portal.
    #[error(
        "the database of `database.url` is encoded in {encoding}; create it with encoding UTF8"
    )]
    Encoding {
        /// The database's encoding.
        encoding: String,
    },
    /// The schema has no tables yet, or not all.
    #[error("the schema of `database.schema` is not up to date; run `b24mirror migrate`")]
    NotMigrated(#[source] DriverError),
    /// The schema was migrated by a newer program.
    #[error("schema `{schema}` was written by a newer b24mirror; install that version or newer")]
    SchemaNewer {
        /// The schema.
        schema: SchemaName,
    },
    /// A migration failed; the schema is as it was before it.
    #[error("schema `{schema}` could not be migrated; nothing of the failed step was kept")]
    Migration {
        /// The schema.
        schema: SchemaName,
        /// What failed.
        #[source]
        source: MigrationError,
    },
    /// Another process talks to the portal now; nothing was written.
    #[error("another process has taken over the lease on this portal; nothing was written")]
    LeaseLost,
    /// The schema belongs to another portal; nothing was written.
    #[error(
        "the schema holds the mirror of {here}, but the settings name {theirs}; \
         set another `database.schema` for it, or correct the portal's address; if {here} was \
         renamed to that, start once with the old host, which leads to the new one"
    )]
    OtherPortal {
        /// The portal that the schema belongs to.
        here: String,
        /// The portal that asked.
        theirs: String,
    },
    /// The tokens that the authorization server gave are for another portal than the schema's;
    /// nothing was written, and they are not kept.
    #[error(
        "the schema holds the mirror of {here}, but the application's tokens are for {theirs}; \
         correct `portal.oauth.host` or set another `database.schema`, then authorize the \
         application again, because its refresh token has been used; if {here} was renamed to \
         that, start once with the webhook, which follows"
    )]
    OtherPortalsTokens {
        /// The portal that the schema belongs to.
        here: String,
        /// The portal that the tokens are for.
        theirs: String,
    },
    /// The settings hide less than what is stored follows, and whoever has them may not change
    /// that; nothing was written.
    #[error(
        "the settings of this command would reveal what the mirror keeps private: {lacking}; \
         give it the settings of the service; if the fields are to be shown from now \
         on, change the settings of the service and start it (`b24mirror run`), or run \
         `b24mirror backfill` with the new ones"
    )]
    Reveals {
        /// Which settings lack which fields.
        lacking: String,
    },
    /// The stored tokens cannot be read with the key of the settings.
    #[error(
        "the stored tokens cannot be decrypted with `portal.oauth.token_key`; give the key that \
         they were stored with, or, if it is lost, authorize the application again and put the new \
         refresh token into `portal.oauth.refresh_token`"
    )]
    TokenKey,
    /// The backfill was started anew meanwhile; nothing was written.
    #[error("backfill segment {id} is gone, because the backfill was started anew")]
    SegmentGone {
        /// The segment.
        id: i64,
    },
    /// The sweep was begun anew meanwhile; nothing was written.
    #[error("the sweep of {entity} is gone, because it was begun anew")]
    SweepGone {
        /// The entity.
        entity: &'static str,
    },
    /// Another transaction has inserted a record since it was looked for; nothing was
    /// written, and the same work may be done again.
    #[error("another transaction has inserted the same record of {entity}; nothing was written")]
    Overtaken {
        /// The entity.
        entity: &'static str,
    },
    /// A stored value cannot be read back: somebody else wrote it.
    #[error(
        "{table}.{column} holds a value that b24mirror never writes; correct or delete the row"
    )]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
    },
    /// A record does not fit its entity's declaration: a bug, not a matter of data.
    #[error("a value of the wrong type came for {entity}.{column}; this is a bug in b24mirror")]
    Declaration {
        /// The entity.
        entity: &'static str,
        /// The column.
        column: &'static str,
    },
    /// The database refused a statement.
    #[error("the database refused a statement")]
    Database(#[source] DriverError),
}

/// What the database or its driver said, told once: the driver's own errors repeat in their
/// texts what their sources say.
#[derive(Debug)]
pub struct DriverError(sqlx::Error);

impl DriverError {
    /// The driver's error.
    pub(super) fn into_inner(self) -> sqlx::Error {
        self.0
    }
}

impl fmt::Display for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            // Without the line of the server's own source code, which the driver adds.
            sqlx::Error::Database(refusal) => f.write_str(refusal.message()),
            sqlx::Error::Io(error) => error.fmt(f),
            other => other.fmt(f),
        }
    }
}

impl std::error::Error for DriverError {}

impl Deref for DriverError {
    type Target = sqlx::Error;

    fn deref(&self) -> &sqlx::Error {
        &self.0
    }
}

/// Why a migration failed, told once like a [`DriverError`].
#[derive(Debug)]
pub struct MigrationError(MigrateError);

impl fmt::Display for MigrationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for MigrationError {}

impl From<MigrateError> for MigrationError {
    fn from(error: MigrateError) -> Self {
        Self(error)
    }
}

impl StoreError {
    /// Whether waiting helps: the caller waits, reads its progress again and goes on.
    #[must_use]
    pub const fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Overtaken { .. })
    }

    /// Whether it is the database that is away, and not something in it that is in the way:
    /// another's lock, or a statement that took too long.
    #[must_use]
    pub fn is_disconnection(&self) -> bool {
        let Self::Unavailable(error) = self else { return false };
        state_of(error)
            .is_none_or(|state| !matches!(state.as_str(), "55P03" | "57014" | "40001" | "40P01"))
    }

    /// Whether the same transaction may well succeed when it is simply run again.
    pub(super) fn is_conflict(&self) -> bool {
        match self {
            Self::Overtaken { .. } => true,
            Self::Unavailable(error) => {
                state_of(error).is_some_and(|state| matches!(state.as_str(), "40001" | "40P01"))
            }
            _ => false,
        }
    }

    /// Whether only a person can help, by correcting the settings or the rights.
    #[must_use]
    pub const fn is_misconfigured(&self) -> bool {
        matches!(
            self,
            Self::Url { .. }
                | Self::SchemaName { .. }
                | Self::Refused(_)
                | Self::Denied(_)
                | Self::ServerTooOld { .. }
                | Self::Encoding { .. }
                | Self::OtherPortal { .. }
                | Self::OtherPortalsTokens { .. }
                | Self::Reveals { .. }
                | Self::TokenKey
        )
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        let kind: fn(DriverError) -> Self = match &error {
            E::Database(refusal) => match sqlstate(refusal.as_ref()).as_str() {
                // Including 57P01 to 57P03 (stopping, crashed, starting), 57014 (cancelled),
                // 25P03 (idle too long in a transaction) and 25006 (a standby).
                state if matches!(&state[..2], "08" | "53" | "57" | "58") => Self::Unavailable,
                "25P03" | "25006" | "40001" | "40P01" | "55P03" => Self::Unavailable,
                state if state.starts_with("28") || state == "3D000" => Self::Refused,
                "42501" => Self::Denied,
                "42P01" | "42703" | "3F000" => Self::NotMigrated,
                _ => Self::Database,
            },
            E::Tls(source) if !source.is::<io::Error>() => Self::Refused,
            E::Io(_)
            | E::Tls(_)
            | E::Protocol(_)
            | E::PoolTimedOut
            | E::PoolClosed
            | E::WorkerCrashed => Self::Unavailable,
            _ => Self::Database,
        };
        kind(DriverError(error))
    }
}

/// The five-character SQLSTATE; all zeros if the server sent none.
fn sqlstate(refusal: &dyn DatabaseError) -> String {
    refusal.code().filter(|code| code.len() == 5).map_or_else(|| "00000".to_owned(), Into::into)
}

/// The SQLSTATE of an error, if it is the server's.
pub(super) fn state_of(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().map(sqlstate)
}
