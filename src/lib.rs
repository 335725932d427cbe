//! b24mirror keeps a Bitrix24 portal's CRM in PostgreSQL, exact and fresh.
//!
//! # Layout
//! Dependencies point one way, from the command line down to the declarations;
//! `portal` and `store` do not know each other and meet in `sync`.
//!
//! - [`entity`]: what is mirrored; declarations, decoding, content hash. No IO.

pub mod entity;
