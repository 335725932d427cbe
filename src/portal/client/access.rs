//! An application's access to the portal: the token in force, and its renewal.
//!
//! A token is renewed when the portal says that it has expired, and at no other time (vendor
//! page `auto-renewal`). One task does it, whoever asks; the others wait for it. A renewal
//! that has begun is not given up with the call that wanted it: the pair that it brings must
//! be kept, because it has ended the one before.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use reqwest::Client;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{sync::Mutex, time::Instant};
use url::Url;

use super::token_server;
use crate::portal::{
    application::Application,
    error::{PortalError, TokenRefusal},
    tokens::{TokenStore, Tokens, Turn},
};

/// A refusal by the authorization server holds for so long without being asked for again, and
/// twice as long each time it is repeated: who asks too often is blocked, and only a person can
/// change it anyway. Other settings come with another process, which knows of no refusal, and
/// what another process has stored is looked for all the same.
const REFUSED_FOR: Duration = Duration::from_mins(4);

/// It holds no longer than that: some refusals end by themselves, when a bill is paid.
const REFUSED_AT_MOST: Duration = Duration::from_hours(1);

/// A token that has not been used for so long may have expired unused.
const NEW_FOR: Duration = Duration::from_mins(1);

/// How long a process that may not renew waits for the one that does.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often it looks meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is known of the tokens in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The portal's own identity.
    pub member_id: String,
    /// The user whose rights the calls have, if the authorization server said that.
    pub user_id: Option<u64>,
    /// When the access token expires, by the authorization server's clock.
    pub expires_at: Option<DateTime<Utc>>,
}

/// An access token as a call takes it along.
pub(super) struct Pass {
    token: SecretString,
    /// When this process bought it; one that was stored before has served already.
    bought: Option<Instant>,
    /// Whether the portal has ever accepted it.
    accepted: AtomicBool,
}

/// What a failed call makes of its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Complaint {
    /// It has expired.
    Expired,
    /// The portal does not know it.
    Unknown,
}

/// Everything about one application's tokens.
pub(super) struct Access {
    application: Application,
    client: Client,
    store: RwLock<Option<Arc<dyn TokenStore>>>,
    current: RwLock<Option<(Arc<Pass>, Tokens)>>,
    /// Where the authorization server said that the portal is, until somebody has looked.
    told: RwLock<Option<Url>>,
    renewal: Mutex<Renewal>,
}

/// What a renewal leaves to the next one.
#[derive(Default)]
struct Renewal {
    /// Bought and not kept yet: nobody may use it.
    unkept: Option<Unkept>,
    refused: Option<Refused>,
}

/// A refusal that holds.
struct Refused {
    refusal: TokenRefusal,
    at: Instant,
    holds: Duration,
}

impl Refused {
    /// A refusal, which may be one more of a row.
    fn after(earlier: Option<&Self>, refusal: TokenRefusal) -> Self {
        let holds = earlier.map_or(REFUSED_FOR, |earlier| earlier.holds * 2).min(REFUSED_AT_MOST);
        Self { refusal, at: Instant::now(), holds }
    }

    fn is_over(&self) -> bool {
        self.at.elapsed() >= self.holds
    }
}

/// A pair that was bought and could not be kept.
struct Unkept {
    tokens: Tokens,
    /// The refresh token of the stored pair that bought it, unless the settings' token did.
    spent: Option<SecretString>,
}

impl Unkept {
    /// Whether another pair has been stored since: by whoever had the lease meanwhile, or by
    /// ourselves, where only the answer was lost. The stored one is the newer one then.
    fn is_overtaken_by(&self, stored: Option<&Tokens>) -> bool {
        stored.is_some_and(|stored| {
            self.spent
                .as_ref()
                .is_none_or(|spent| spent.expose_secret() != stored.refresh.expose_secret())
        })
    }
}

impl Pass {
    pub(super) const fn token(&self) -> &SecretString {
        &self.token
    }

    /// The portal has accepted it.
    pub(super) fn accept(&self) {
        self.accepted.store(true, Ordering::Relaxed);
    }

    /// Where the portal never accepts what the authorization server has just made, the next
    /// one will not be better. One that has waited may have expired meanwhile.
    fn is_hopeless(&self, complaint: Complaint) -> bool {
        let is_new = |at: Instant| complaint == Complaint::Unknown || at.elapsed() < NEW_FOR;
        self.bought.is_some_and(is_new) && !self.accepted.load(Ordering::Relaxed)
    }
}

impl Access {
    pub(super) fn new(application: Application, client: Client) -> Self {
        Self {
            application,
            client,
            store: RwLock::default(),
            current: RwLock::default(),
            told: RwLock::default(),
            renewal: Mutex::default(),
        }
    }

    /// Says where the tokens are kept from now on. What was loaded from elsewhere is
    /// forgotten: another process may have renewed it since.
    pub(super) fn keep_in(&self, store: Arc<dyn TokenStore>) {
        *self.store.write().unwrap_or_else(PoisonError::into_inner) = Some(store);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What is known of the tokens in force.
    pub(super) fn grant(&self) -> Option<Grant> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().map(|(_, tokens)| Grant {
            member_id: tokens.member_id.clone(),
            user_id: tokens.user_id,
            expires_at: tokens.expires_at,
        })
    }

    /// Where the authorization server says that the portal is; once after each renewal, for
    /// an address that does not answer is not tried again.
    pub(super) fn take_told_address(&self) -> Option<Url> {
        self.told.write().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The token in force, which is loaded or bought when there is none yet.
    pub(super) async fn pass(self: &Arc<Self>) -> Result<Arc<Pass>, PortalError> {
        match self.current() {
            Some(pass) => Ok(pass),
            None => self.renewed(None).await,
        }
    }

    /// Sees to another token after a complaint; `false` where none would be better.
    pub(super) async fn replace(
        self: &Arc<Self>,
        used: &Arc<Pass>,
        complaint: Complaint,
    ) -> Result<bool, PortalError> {
        if used.is_hopeless(complaint) {
            return Ok(false);
        }
        self.renewed(Some(Arc::clone(used))).await.map(|_| true)
    }

    /// Replaces every secret that is known here wherever a text repeats it.
    pub(super) fn scrub(&self, text: &str) -> String {
        let mut text = text.to_owned();
        let mut hide = |secret: &SecretString| {
            text = text.replace(secret.expose_secret(), "***");
        };
        hide(self.application.client_secret());
        hide(self.application.refresh_token());
        if let Some((_, tokens)) = &*self.current.read().unwrap_or_else(PoisonError::into_inner) {
            hide(&tokens.access);
            hide(&tokens.refresh);
        }
        text
    }

    /// Whether a renewal is under way, or a pair that was bought is still to be stored.
    pub(super) fn is_renewing(&self) -> bool {
        self.renewal.try_lock().map_or(true, |renewal| renewal.unkept.is_some())
    }

    /// Waits until no renewal is under way, and tries once more to store what was bought.
    pub(super) async fn settle(&self) {
        let mut renewal = self.renewal.lock().await;
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(store) = store.filter(|_| renewal.unkept.is_some())
            && matches!(store.turn().await, Ok(Turn::Ours))
        {
            let kept = self.buy(&*store, None, &mut renewal).await.map(drop);
            if let Err(error) = kept.and(store.done().await.map_err(PortalError::from)) {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the application's new tokens could not be stored and are lost; it has to be \
                     authorized anew"
                );
            }
        }
    }

    fn current(&self) -> Option<Arc<Pass>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().map(|(pass, _)| Arc::clone(pass))
    }

    /// Another pass than the one that was used, in a task that nobody gives up.
    async fn renewed(self: &Arc<Self>, used: Option<Arc<Pass>>) -> Result<Arc<Pass>, PortalError> {
        let access = Arc::clone(self);
        match tokio::spawn(async move { access.renew(used.as_ref()).await }).await {
            Ok(renewed) => renewed,
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The process is ending.
                Err(_) => Err(PortalError::NoTokens),
            },
        }
    }

    async fn renew(&self, used: Option<&Arc<Pass>>) -> Result<Arc<Pass>, PortalError> {
        let mut renewal = self.renewal.lock().await;
        let is_other = |pass: &Arc<Pass>| used.is_none_or(|used| !Arc::ptr_eq(used, pass));
        if let Some(pass) = self.current().filter(is_other) {
            return Ok(pass);
        }
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner).clone();
        let store = store.ok_or(PortalError::NoTokens)?;
        if renewal.unkept.is_none() {
            // Another process may have renewed them.
            if let Some(pass) = self.load(&*store, used).await? {
                return Ok(pass);
            }
            if let Some(refused) = renewal.refused.as_ref().filter(|refused| !refused.is_over()) {
                return Err(refused.refusal.clone().into());
            }
        }
        if let Turn::Theirs { holder } = store.turn().await? {
            return self.wait_for(&*store, used, holder).await;
        }
        let bought = self.buy(&*store, used, &mut renewal).await;
        let done = store.done().await;
        let pass = bought?;
        done?;
        Ok(pass)
    }

    /// Buys a pair and keeps it, unless somebody has done that before our turn came.
    async fn buy(
        &self,
        store: &dyn TokenStore,
        used: Option<&Arc<Pass>>,
        renewal: &mut Renewal,
    ) -> Result<Arc<Pass>, PortalError> {
        let stored = store.load().await?;
        renewal.unkept.take_if(|unkept| unkept.is_overtaken_by(stored.as_ref()));
        if renewal.unkept.is_none() {
            if let Some(pass) = self.load(store, used).await? {
                return Ok(pass);
            }
            let tokens = self.ask(stored.as_ref(), &mut renewal.refused).await?;
            let spent = stored.map(|stored| stored.refresh);
            renewal.unkept = Some(Unkept { tokens, spent });
        }
        if let Some(Unkept { tokens, .. }) = &renewal.unkept {
            store.keep(tokens).await?;
        }
        let Unkept { tokens, .. } = renewal.unkept.take().ok_or(PortalError::NoTokens)?;
        tracing::info!("the application's tokens were renewed and are stored");
        Ok(self.use_from_now_on(tokens, true))
    }

    /// Asks the authorization server for a new pair.
    async fn ask(
        &self,
        stored: Option<&Tokens>,
        refused: &mut Option<Refused>,
    ) -> Result<Tokens, PortalError> {
        let (refresh, said) = match stored {
            Some(tokens) => (&tokens.refresh, Some(&*tokens.token_server)),
            None => (self.application.refresh_token(), None),
        };
        let server = self.application.token_server(said);
        tracing::debug!(server = server.host_str(), "renewing the application's tokens");
        let answer = token_server::renew(&self.client, &self.application, &server, refresh).await;
        match answer {
            Err(PortalError::TokenRefused(refusal)) => {
                if refusal.is_final() {
                    *refused = Some(Refused::after(refused.as_ref(), (*refusal).clone()));
                }
                Err(PortalError::TokenRefused(refusal))
            }
            Ok(tokens) => {
                *refused = None;
                Ok(tokens)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes the stored pair, if it is another than the one that was used.
    async fn load(
        &self,
        store: &dyn TokenStore,
        used: Option<&Arc<Pass>>,
    ) -> Result<Option<Arc<Pass>>, PortalError> {
        let stored = store.load().await?.filter(|tokens| {
            used.is_none_or(|used| used.token.expose_secret() != tokens.access.expose_secret())
        });
        Ok(stored.map(|tokens| self.use_from_now_on(tokens, false)))
    }

    fn use_from_now_on(&self, tokens: Tokens, is_new: bool) -> Arc<Pass> {
        let pass = Pass {
            token: tokens.access.clone(),
            bought: is_new.then(Instant::now),
            accepted: AtomicBool::new(false),
        };
        let pass = Arc::new(pass);
        if is_new {
            let told = tokens.endpoint.as_deref().and_then(|told| Url::parse(told).ok());
            *self.told.write().unwrap_or_else(PoisonError::into_inner) = told;
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) =
            Some((Arc::clone(&pass), tokens));
        pass
    }

    /// The holder of the lease meets the same expired token and renews it.
    async fn wait_for(
        &self,
        store: &dyn TokenStore,
        used: Option<&Arc<Pass>>,
        holder: String,
    ) -> Result<Arc<Pass>, PortalError> {
        let give_up = Instant::now() + PATIENCE;
        while Instant::now() < give_up {
            tokio::time::sleep(LOOK_EVERY).await;
            if let Some(pass) = self.load(store, used).await? {
                return Ok(pass);
            }
        }
        Err(PortalError::NotRenewed { holder })
    }
}

#[cfg(all(test, feature = "simulator"))]
mod tests;
