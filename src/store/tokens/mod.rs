//! The tokens of an application: stored encrypted, before anybody uses them.

mod seal;

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

pub use self::seal::{InvalidTokenKey, TokenKey};
use super::{Generation, Store, StoreError, portal::portal_row};

/// A pair of tokens and what the authorization server said of it.
#[derive(Debug, Clone)]
pub struct StoredTokens {
    /// Opens the portal, for an hour.
    pub access: SecretString,
    /// Buys the next pair, once.
    pub refresh: SecretString,
    /// The portal that they are for.
    pub member_id: String,
    /// The user whose rights they have, if the authorization server said that.
    pub user_id: Option<i64>,
    /// Where calls go, if the authorization server said that.
    pub endpoint: Option<String>,
    /// The authorization server that renews them.
    pub token_server: String,
    /// When the access token expires, by the authorization server's clock.
    pub expires_at: Option<DateTime<Utc>>,
}

/// What is encrypted.
#[derive(Serialize, Deserialize)]
struct Pair {
    access: String,
    refresh: String,
}

#[derive(sqlx::FromRow)]
struct Row {
    sealed: Vec<u8>,
    member_id: String,
    user_id: Option<i64>,
    endpoint: Option<String>,
    token_server: String,
    expires_at: Option<DateTime<Utc>>,
}

impl Store {
    /// The same store with the key of its tokens; without this call it keeps none.
    #[must_use]
    pub fn with_token_key(mut self, key: Option<TokenKey>) -> Self {
        self.token_key = key.map(Into::into);
        self
    }

    /// The stored pair, if it came of the refresh token with this fingerprint; any other
    /// authorization is newer than what is stored.
    ///
    /// # Errors
    /// [`StoreError::TokenKey`] when it was stored with another key.
    pub async fn tokens(&self, fingerprint: &[u8]) -> Result<Option<StoredTokens>, StoreError> {
        let row: Option<Row> = sqlx::query_as(
            "select sealed, member_id, user_id, endpoint, token_server, expires_at \
             from portal_tokens where $1 = any (spent)",
        )
        .bind(fingerprint)
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| self.opened(row)).transpose()
    }

    fn opened(&self, row: Row) -> Result<StoredTokens, StoreError> {
        let key = self.token_key.as_ref().ok_or(StoreError::TokenKey)?;
        let mut tokens = StoredTokens {
            access: String::new().into(),
            refresh: String::new().into(),
            member_id: row.member_id,
            user_id: row.user_id,
            endpoint: row.endpoint,
            token_server: row.token_server,
            expires_at: row.expires_at,
        };
        let pair = key.open(&row.sealed, &bound(&tokens)).ok_or(StoreError::TokenKey)?;
        let inconsistent = StoreError::Inconsistent { table: "portal_tokens", column: "sealed" };
        let pair: Pair = serde_json::from_slice(&pair).map_err(|_| inconsistent)?;
        tokens.access = pair.access.into();
        tokens.refresh = pair.refresh.into();
        Ok(tokens)
    }

    /// Stores a pair in place of the last one, and remembers the fingerprint of the refresh
    /// token in the settings that it came of.
    ///
    /// # Errors
    /// [`StoreError::OtherPortalsTokens`] for a pair of another portal than the schema's, and
    /// [`StoreError::LeaseLost`]; nothing is written then.
    pub async fn keep_tokens(
        &self,
        generation: Generation,
        fingerprint: &[u8],
        tokens: &StoredTokens,
    ) -> Result<(), StoreError> {
        let key = self.token_key.as_ref().ok_or(StoreError::TokenKey)?;
        let pair = Pair {
            access: tokens.access.expose_secret().to_owned(),
            refresh: tokens.refresh.expose_secret().to_owned(),
        };
        let unsealed = || StoreError::Inconsistent { table: "portal_tokens", column: "sealed" };
        let pair = serde_json::to_vec(&pair).map_err(|_| unsealed())?;
        let sealed = key.seal(&pair, &bound(tokens)).map_err(|_| unsealed())?;

        let mut transaction = self.begin_leased(generation).await?;
        let endpoint = tokens.endpoint.as_deref().unwrap_or("another host");
        let host = url::Url::parse(endpoint).ok().and_then(|url| {
            let host = url.host_str()?;
            Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
        });
        let owner = portal_row(&mut *transaction).await?;
        let is_other = owner.as_ref().is_some_and(|owner| match (&owner.member_id, &host) {
            (Some(own), _) => *own != tokens.member_id,
            // What a webhook has filled is known by its host alone.
            (None, Some(host)) => !owner.knows(host),
            (None, None) => false,
        });
        if let Some(owner) = owner.filter(|_| is_other) {
            let theirs = host.unwrap_or_else(|| endpoint.to_owned());
            return Err(StoreError::OtherPortalsTokens { here: owner.host, theirs });
        }
        sqlx::query(
            "insert into portal_tokens (sealed, member_id, user_id, endpoint, token_server, \
                expires_at, spent, generation, updated_at) \
             values ($1, $2, $3, $4, $5, $6, array[$7], $8, clock_timestamp()) \
             on conflict (one) do update set sealed = excluded.sealed, \
                member_id = excluded.member_id, user_id = excluded.user_id, \
                endpoint = excluded.endpoint, token_server = excluded.token_server, \
                expires_at = excluded.expires_at, generation = excluded.generation, \
                updated_at = excluded.updated_at, \
                spent = array_append(array_remove(portal_tokens.spent, $7), $7)",
        )
        .bind(sealed)
        .bind(&tokens.member_id)
        .bind(tokens.user_id)
        .bind(&tokens.endpoint)
        .bind(&tokens.token_server)
        .bind(tokens.expires_at)
        .bind(fingerprint)
        .bind(generation.get())
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// The portal that the stored pair is for, if it came of the refresh token with this
    /// fingerprint.
    pub async fn tokens_member(&self, fingerprint: &[u8]) -> Result<Option<String>, StoreError> {
        Ok(sqlx::query_scalar("select member_id from portal_tokens where $1 = any (spent)")
            .bind(fingerprint)
            .fetch_optional(&self.pool)
            .await?)
    }

    /// Proves that the lease is still ours, at this moment.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when it is not.
    pub async fn prove_lease(&self, generation: Generation) -> Result<(), StoreError> {
        let transaction = self.begin_leased(generation).await?;
        Ok(transaction.rollback().await?)
    }
}

/// What the pair cannot be parted from.
fn bound(tokens: &StoredTokens) -> Vec<u8> {
    let seconds = tokens.expires_at.map(|at| at.timestamp());
    format!(
        "portal_tokens\n{}\n{:?}\n{:?}\n{}\n{seconds:?}",
        tokens.member_id, tokens.user_id, tokens.endpoint, tokens.token_server
    )
    .into_bytes()
}
