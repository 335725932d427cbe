//! An application's tokens, and where they are kept. How, the store behind the trait knows.

use std::{error::Error, fmt, future::Future, pin::Pin};

use chrono::{DateTime, Utc};
use secrecy::SecretString;

/// A pair of tokens and what the authorization server said of it.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// Opens the portal, for an hour.
    pub access: SecretString,
    /// Buys the next pair, once.
    pub refresh: SecretString,
    /// The portal that they are for.
    pub member_id: String,
    /// The user whose rights they have, if the authorization server said that.
    pub user_id: Option<u64>,
    /// Where calls go, if the authorization server said that.
    pub endpoint: Option<String>,
    /// The address that renews them.
    pub token_server: String,
    /// When the access token expires, by the authorization server's clock.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Whose turn it is to renew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// Nobody else renews until [`TokenStore::done`].
    Ours,
    /// Another process does, which is named for people.
    Theirs {
        /// Host, process and command.
        holder: String,
    },
}

/// What a [`TokenStore`] promises to give, some time.
pub type TokenFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, TokenStoreError>> + Send + 'a>>;

/// Where an application's tokens are kept.
///
/// A renewal ends the pair before it, so of all processes only one may renew, and the new
/// pair is kept before anybody uses it.
pub trait TokenStore: Send + Sync {
    /// The pair in force, if one has come of the refresh token in the settings.
    fn load(&self) -> TokenFuture<'_, Option<Tokens>>;

    /// Asks whether we may renew.
    fn turn(&self) -> TokenFuture<'_, Turn>;

    /// Keeps a new pair for good.
    fn keep<'a>(&'a self, tokens: &'a Tokens) -> TokenFuture<'a, ()>;

    /// Lets others renew again.
    fn done(&self) -> TokenFuture<'_, ()>;
}

/// The store of tokens has failed.
#[derive(Debug)]
pub struct TokenStoreError {
    source: Box<dyn Error + Send + Sync>,
    lasting: bool,
}

impl TokenStoreError {
    /// Takes the failure; `lasting` where trying again cannot help.
    pub fn new(source: impl Error + Send + Sync + 'static, lasting: bool) -> Self {
        Self { source: Box::new(source), lasting }
    }

    /// Takes a failure that is in a box already; trying again cannot help.
    #[must_use]
    pub const fn boxed(source: Box<dyn Error + Send + Sync>) -> Self {
        Self { source, lasting: true }
    }

    /// Whether trying again cannot help.
    #[must_use]
    pub const fn is_lasting(&self) -> bool {
        self.lasting
    }

    /// The failure itself.
    #[must_use]
    pub fn into_source(self) -> Box<dyn Error + Send + Sync> {
        self.source
    }
}

impl fmt::Display for TokenStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl Error for TokenStoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.source()
    }
}
