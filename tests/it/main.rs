//! The one integration binary: real PostgreSQL, real HTTP, the real program.

#![expect(clippy::unwrap_used, reason = "a helper that fails should fail the test it helps")]

mod activities;
mod backfill;
mod bad_input;
mod clocks;
mod crash;
mod declarations;
mod dictionaries;
mod estimates;
mod faults;
mod forget;
mod governor;
mod handover;
mod harness;
mod histories;
mod history;
mod idle;
mod isolation;
mod items;
mod limits;
mod live;
mod mail_recipients;
mod oauth;
mod pause;
mod plan;
mod privacy;
mod product_rows;
mod refresh;
mod rename;
mod reporting;
mod retention;
mod secrets;
mod service;
mod sharing;
mod smart_processes;
mod stage_history;
mod status;
mod store;
mod support;
mod sweep;
mod traps;
mod undocumented;
mod verify;
mod vibecode;
mod whole_crm;
