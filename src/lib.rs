//! b24mirror keeps a Bitrix24 portal's CRM in PostgreSQL, exact and fresh.
//!
//! # Layout
//! Dependencies point one way, from the command line down to the declarations;
//! `portal` and `store` do not know each other and meet in `sync`.
//!
//! - [`entity`]: what is mirrored; declarations, decoding, content hash. No IO.
//! - [`portal`]: how the portal is read; one client, one limiter, one error table. No SQL.
//! - [`store`]: where it goes; one transaction per batch, checkpoints, lease. No HTTP.
//! - [`reporting`]: what people query; views and what they say of themselves. No IO.
//! - [`sync`]: the work; backfill, incremental cycles, scheduler.
//! - [`retry`]: delays and dispositions; what a failure asks for.
//! - [`settings`], [`telemetry`], [`lifecycle`]: the process around it.
//! - [`cli`]: one file per command.
//! - [`local_postgres`]: a private PostgreSQL server in a directory.
//! - [`simulator`]: a portal on loopback, faults included.

pub mod cli;
#[cfg(test)]
mod corpus;
pub mod entity;
pub mod lifecycle;
pub mod local_postgres;
pub mod portal;
pub mod reporting;
pub mod retry;
pub mod settings;
#[cfg(feature = "simulator")]
pub mod simulator;
pub mod store;
pub mod sync;
pub mod telemetry;
