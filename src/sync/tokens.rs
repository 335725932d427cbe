//! Where the client's tokens meet the store: under the lease for a session, and beside it for
//! commands that only look.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{LEASE_TTL, SyncError};
use crate::{
    portal::{
        Credentials, Portal, PortalError, TokenFuture, TokenStore, TokenStoreError, Tokens, Turn,
    },
    store::{Acquired, Generation, Lease, PortalIdentity, Store, StoreError, StoredTokens},
};

/// A process that has been told to end waits no longer for a pair that is being bought and
/// stored: the authorization server has ten seconds, and the lease lasts longer than both.
const RENEWED_WITHIN: Duration = Duration::from_secs(12);

/// The tokens of a session: they are its own as long as the lease is.
struct Leased {
    store: Store,
    generation: Generation,
    fingerprint: [u8; 32],
}

/// The tokens as a command beside the lease may use them. Where nobody holds the lease, it
/// takes it for the moment of a renewal, so that never two processes renew.
struct Visiting {
    store: Store,
    fingerprint: [u8; 32],
    holder: String,
    /// Requests that a holder who was killed may have left in the portal's counter.
    bucket: f64,
    lease: Mutex<Option<Lease>>,
}

/// Lets a session's calls use the stored tokens, and store new ones.
pub(super) fn keep(portal: &Portal, store: &Store, generation: Generation) {
    if let Credentials::Application(application) = portal.credentials() {
        let fingerprint = application.fingerprint();
        portal.keep_tokens_in(Arc::new(Leased { store: store.clone(), generation, fingerprint }));
    }
}

/// Prepares the client of a command that works beside the lease: it uses the stored tokens
/// and goes to where the portal is known to be. `bucket` is the portal's request limit.
///
/// # Errors
/// [`StoreError::OtherPortal`] when the schema belongs to another portal, and
/// [`StoreError::TokenKey`] when its tokens are encrypted with another key.
pub async fn visit(
    store: &Store,
    portal: &Portal,
    holder: &str,
    bucket: f64,
) -> Result<(), SyncError> {
    recognise(store, portal).await?;
    if let Credentials::Application(application) = portal.credentials() {
        // Before anything is asked: whether the key fits.
        store.tokens(&application.fingerprint()).await?;
        portal.keep_tokens_in(Arc::new(Visiting {
            store: store.clone(),
            fingerprint: application.fingerprint(),
            holder: holder.to_owned(),
            bucket,
            lease: Mutex::default(),
        }));
    }
    Ok(())
}

/// Refuses a portal that the schema does not belong to, and goes to where a renamed one is
/// known to be. Asks nobody: whether a new authorization is the right one shows later.
///
/// # Errors
/// [`StoreError::OtherPortal`].
pub(super) async fn recognise(store: &Store, portal: &Portal) -> Result<(), StoreError> {
    let member_id = match portal.credentials() {
        Credentials::Webhook(_) | Credentials::GatewayAlone(_) => None,
        Credentials::Application(application) => {
            store.tokens_member(&application.fingerprint()).await?
        }
    };
    let asking = PortalIdentity { host: portal.host(), member_id: member_id.as_deref() };
    store.refuse_other_portal(&asking).await?;
    if let Some(row) = store.portal_row().await?
        && let Some(host) = row.moved_from(portal.host())
        && portal.found_at().is_none()
    {
        tracing::warn!(
            host,
            setting = portal.credentials().host_key(),
            "the portal was renamed; put its new host into the settings"
        );
        portal.start_at(host);
    }
    Ok(())
}

/// Gets tokens before the work begins, so that it is known whose they are. Where there are
/// none to be had, the work begins all the same and says so of every entity.
///
/// # Errors
/// What the store says, another portal's tokens above all.
pub(super) async fn authorize(portal: &Portal) -> Result<(), SyncError> {
    match portal.authorize().await {
        Ok(()) => Ok(()),
        Err(PortalError::TokensNotKept(error)) => Err(match error.into_source().downcast() {
            Ok(error) => SyncError::Store(*error),
            Err(other) => PortalError::TokensNotKept(TokenStoreError::boxed(other)).into(),
        }),
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "there are no tokens for the portal yet"
            );
            Ok(())
        }
    }
}

/// Waits for a renewal under way, but not for long: a pair of tokens that has been bought is
/// stored under the lease, or lost.
pub async fn settle(portal: &Portal) {
    if tokio::time::timeout(RENEWED_WITHIN, portal.settle_tokens()).await.is_err() {
        tracing::warn!("a renewal of tokens is under way and is not waited for any longer");
    }
}

fn failed(error: StoreError) -> TokenStoreError {
    let lasting = !error.is_unavailable() && !matches!(error, StoreError::LeaseLost);
    TokenStoreError::new(error, lasting)
}

async fn load(store: &Store, fingerprint: &[u8]) -> Result<Option<Tokens>, TokenStoreError> {
    let stored = store.tokens(fingerprint).await.map_err(failed)?;
    Ok(stored.map(|stored| Tokens {
        access: stored.access,
        refresh: stored.refresh,
        member_id: stored.member_id,
        user_id: stored.user_id.and_then(|id| u64::try_from(id).ok()),
        endpoint: stored.endpoint,
        token_server: stored.token_server,
        expires_at: stored.expires_at,
    }))
}

async fn store_pair(
    store: &Store,
    generation: Generation,
    fingerprint: &[u8],
    tokens: &Tokens,
) -> Result<(), TokenStoreError> {
    let tokens = StoredTokens {
        access: tokens.access.clone(),
        refresh: tokens.refresh.clone(),
        member_id: tokens.member_id.clone(),
        user_id: tokens.user_id.and_then(|id| i64::try_from(id).ok()),
        endpoint: tokens.endpoint.clone(),
        token_server: tokens.token_server.clone(),
        expires_at: tokens.expires_at,
    };
    store.keep_tokens(generation, fingerprint, &tokens).await.map_err(failed)
}

impl TokenStore for Leased {
    fn load(&self) -> TokenFuture<'_, Option<Tokens>> {
        Box::pin(load(&self.store, &self.fingerprint))
    }

    fn turn(&self) -> TokenFuture<'_, Turn> {
        Box::pin(async {
            self.store.prove_lease(self.generation).await.map_err(failed)?;
            Ok(Turn::Ours)
        })
    }

    fn keep<'a>(&'a self, tokens: &'a Tokens) -> TokenFuture<'a, ()> {
        Box::pin(store_pair(&self.store, self.generation, &self.fingerprint, tokens))
    }

    fn done(&self) -> TokenFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

impl Visiting {
    fn lease(&self) -> Option<Lease> {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, lease: Option<Lease>) {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner) = lease;
    }
}

impl TokenStore for Visiting {
    fn load(&self) -> TokenFuture<'_, Option<Tokens>> {
        Box::pin(load(&self.store, &self.fingerprint))
    }

    fn turn(&self) -> TokenFuture<'_, Turn> {
        Box::pin(async {
            match self.store.try_acquire(&self.holder, LEASE_TTL).await.map_err(failed)? {
                Acquired::Ours(lease) => {
                    self.set(Some(lease));
                    Ok(Turn::Ours)
                }
                Acquired::HeldBy { holder, .. } => Ok(Turn::Theirs { holder }),
            }
        })
    }

    fn keep<'a>(&'a self, tokens: &'a Tokens) -> TokenFuture<'a, ()> {
        Box::pin(async {
            let lease = self.lease().ok_or(StoreError::LeaseLost).map_err(failed)?;
            store_pair(&self.store, lease.generation, &self.fingerprint, tokens).await
        })
    }

    fn done(&self) -> TokenFuture<'_, ()> {
        Box::pin(async {
            let Some(lease) = self.lease() else { return Ok(()) };
            self.set(None);
            let level = if lease.clean { lease.bucket_level } else { self.bucket };
            match self.store.release(lease.generation, level).await {
                Ok(()) | Err(StoreError::LeaseLost) => Ok(()),
                Err(error) => Err(failed(error)),
            }
        })
    }
}
