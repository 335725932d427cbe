//! A portal on loopback that behaves as the vendor's does, so that one can try
//! things out and test without a live portal.
//!
//! # What it promises
//! - The classic CRM methods of contacts and leads (`list`, `get`, `fields`,
//!   `userfield.list`), `batch`, the directories and the portal's own facts, over
//!   `/rest/{user}/{secret}/{method}`, with the kernel's quirks: PHP's parameters
//!   and empty maps, silently dropped filters, dates that become IS NULL, pages
//!   that wrap, references that fall back, local times without an offset.
//! - `crm.item.list`, `get` and `fields` over the same records in their own dialect, and
//!   over companies, deals, quotes, smart invoices and two smart processes; pipelines,
//!   stage history and product rows.
//! - The mail address book over REST 3.0, `/rest/api/{user}/{secret}/{method}`.
//! - A local application: `/rest/{method}` with an access token, and the authorization
//!   server that renews it.
//! - Both limits (requests and operating time), rights, scopes, revocation, and
//!   faults on demand, from an error code to a connection that breaks off.
//! - Data that are deterministic from a seed and nasty on purpose. A portal of a
//!   million records starts at once: records are made when they are asked for.
//! - [`Simulator::stats`] counts every trap for careless clients that was really
//!   sprung; [`Simulator::truth`] tells what a right mirror must hold, and
//!   [`Simulator::item_truth`] what one must that reads `crm.item.list`.
//!
//! It stands alone: field lists and encoders are its own, so that a mistake in the
//! mirror's declarations is not hidden by a simulator that shares it.
//!
//! # Layout
//! `php`, `clock`: values and time as the portal knows them. `entity`, `fields`, `families`,
//! `user_fields`, `pipelines`, `content`, `dataset`, `links`, `records`, `names`, `recipients`: what is
//! stored. `query`, `search`, `lists`, `rows`, `items`, `directories`, `structure`, `history`,
//! `products`, `sheets`, `batch`: how calls are answered. `gateway`: the VibeCode gateway
//! before all that. `limits`, `faults`, `wire`: how they are not.
//! `undocumented`: switches for what the vendor's pages leave open.
//! `applications`: access by tokens, their renewal, and the portal's host.
//! `actions`, `writes`, `control`: how the portal is driven. `truth`, `stats`:
//! what it tells about itself.

mod actions;
mod applications;
mod batch;
mod clock;
mod content;
mod control;
mod dataset;
mod directories;
mod entity;
mod families;
mod faults;
mod fields;
mod gateway;
mod history;
mod items;
mod limits;
mod links;
mod lists;
mod names;
mod options;
mod php;
mod pipelines;
mod portal;
mod products;
mod query;
mod recipients;
mod records;
mod rows;
mod search;
mod server;
mod sheets;
mod stats;
mod structure;
mod truth;
mod undocumented;
mod user_fields;
mod wire;
mod writes;

#[cfg(test)]
mod tests;

use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;

use thiserror::Error;
use tokio_util::sync::CancellationToken;

pub use actions::{Action, ActionError, Outcome};
pub use applications::{ApplicationEvent, ApplicationOptions};
pub use entity::Entity;
pub use faults::{Fault, FaultKind, Place, Poison};
pub use gateway::{Filtering, GatewayOptions};

pub use history::TrueStep;
pub use limits::{Booking, BucketLimit, OperatingLimit};
pub use names::{TrueCurrency, TrueDepartment, TrueNames, TruePipeline, TrueStatus, TrueUser};
pub use options::Options;
pub use portal::{Cost, Rights};
pub use products::TrueProduct;
pub use recipients::TrueRecipient;
pub use stats::{Stats, TRAPS};
pub use truth::{TrueMulti, TrueRecord};
pub use undocumented::{
    FileKeys, ItemOverrun, NewerFailures, Overrun, RecipientOrder, Refusal, RetryAfter,
    Undocumented, Unlinking,
};
pub use user_fields::UserFieldType;

use clock::Ticks;
use portal::Portal;
use server::Shared;
use wire::FaultyListener;

/// A running portal. It ends when this is dropped.
///
/// It serves on a thread of its own, one core, so that neither a paused clock
/// nor a busy runtime of the caller touches it.
#[derive(Debug)]
pub struct Simulator {
    address: SocketAddr,
    webhook_path: String,
    shared: Shared,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// Why a simulator did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address is taken or not ours.
    #[error("cannot listen on {0}; choose another port, or 0 for a free one")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// The server's thread or runtime was not to be had.
    #[error("cannot start the simulator's thread")]
    Thread(#[source] std::io::Error),
}

impl Simulator {
    /// Starts a portal.
    pub fn start(options: Options) -> Result<Self, StartError> {
        let wanted = SocketAddr::new(options.host, options.port);
        let listen = |error| StartError::Listen(wanted, error);
        let listener = TcpListener::bind(wanted).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let webhook_path = format!("/rest/{}/{}", options.user, options.secret);
        let ticks = if options.still { Ticks::still() } else { Ticks::real() };
        let mut portal = Portal::new(options, ticks);
        portal.download = format!("http://{address}{webhook_path}");
        portal.applications.address = address.to_string();
        let shared = Shared::new(portal);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StartError::Thread)?;
        let stop = CancellationToken::new();
        let served = shared.clone();
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("simulator".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
                        return;
                    };
                    let serve = server::serve(FaultyListener(listener), served);
                    stopped.run_until_cancelled(serve).await;
                });
            })
            .map_err(StartError::Thread)?;
        Ok(Self { address, webhook_path, shared, stop, thread: Some(thread) })
    }

    /// `http://127.0.0.1:port`
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The webhook's address, with its secret and a final slash.
    #[must_use]
    pub fn webhook_url(&self) -> String {
        format!("{}{}/", self.url(), self.webhook_path)
    }

    /// The address of the authorization server.
    #[must_use]
    pub fn token_server(&self) -> String {
        format!("{}/oauth/token/", self.url())
    }

    /// The address that drives the portal over HTTP.
    #[must_use]
    pub fn control_url(&self) -> String {
        format!("{}/control", self.url())
    }

    /// Does something to the portal.
    pub fn apply(&self, action: Action) -> Result<Outcome, ActionError> {
        self.shared.lock().apply(action)
    }

    /// Queues a fault.
    pub fn fault(&self, fault: Fault) {
        self.shared.lock().faults.queue.push(fault);
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.lock().stats.clone()
    }

    /// Starts counting anew.
    pub fn reset_stats(&self) {
        self.shared.lock().stats = Stats::default();
    }

    /// What a right mirror holds of an entity at this moment, by ascending id.
    #[must_use]
    pub fn truth(&self, entity: Entity) -> Vec<TrueRecord> {
        self.shared.lock().truth(entity)
    }

    /// What a right mirror holds that reads `crm.item.list`: records of every category,
    /// fields under their classic names, without those that items lack, and links.
    #[must_use]
    pub fn item_truth(&self, entity: Entity) -> Vec<TrueRecord> {
        self.shared.lock().item_truth(entity)
    }

    /// The steps of live records through their stages, by ascending number.
    #[must_use]
    pub fn stage_history(&self, entity: Entity) -> Vec<TrueStep> {
        self.shared.lock().true_steps(entity)
    }

    /// The product rows of live records, by ascending owner and number.
    #[must_use]
    pub fn product_rows(&self, entity: Entity) -> Vec<TrueProduct> {
        self.shared.lock().true_products(entity)
    }

    /// What a right mirror knows of the names behind codes at this moment.
    #[must_use]
    pub fn names(&self) -> TrueNames {
        self.shared.lock().names.truth()
    }

    /// What a right mirror holds of the mail address book at this moment, by ascending id.
    #[must_use]
    pub fn recipients(&self) -> Vec<TrueRecipient> {
        self.shared.lock().recipients.truth()
    }

    /// The ids of all records of an entity that lists show at this moment, ascending.
    #[must_use]
    pub fn ids(&self, entity: Entity) -> Vec<i64> {
        self.shared.lock().ids(entity)
    }

    /// How many writes are committed but not yet visible.
    #[must_use]
    pub fn pending(&self) -> usize {
        let mut portal = self.shared.lock();
        portal.settle();
        portal.pending.len()
    }

    /// The portal's clock, in Unix seconds.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.shared.lock().clock.now()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported where it happened.
            let _ = thread.join();
        }
    }
}
