//! How the portal is read: HTTP, no SQL.
//!
//! This module promises that
//! - every request passes one limiter, so that the portal never has to refuse us for
//!   our own doing (see [`Limiter`]);
//! - every failure is classified by one table, wherever the portal hides it: in the
//!   status, in the body of a 200, or inside a batch ([`PortalError::disposition`]);
//! - an answer is either the portal's or an error: cut, empty, oversized and foreign
//!   bodies never pass for data;
//! - no error, log line or `Debug` output holds a webhook's secret or an application's
//!   tokens;
//! - a pair of tokens is kept for good before anybody uses it ([`TokenStore`]).
//!
//! A call is made by [`Portal`]: permit, POST, envelope, and again if the failure is
//! worth it. [`ListSource`] turns a question about ID ranges into one
//! batch of chained pages, in the words of the classic lists or of items, and walks the answer.
//! [`GatewaySource`] asks the same of a [`Gateway`] before the portal.
//! [`DictionarySource`] reads the lists that explain codes, [`MailRecipientSource`] the mail
//! address book.

mod application;
mod auth;
mod batch;
mod body;
mod client;
mod envelope;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod gateway;
mod limiter;
mod retry_after;
mod source;
mod tokens;

pub use self::{
    application::{Application, ApplicationOptions, InvalidApplication},
    auth::{Credentials, InvalidHost, InvalidWebhook, PortalHost, WebhookUrl},
    batch::{BatchAnswer, Commands},
    client::{Grant, Meter, Patience, Portal, PortalOptions},
    envelope::{Answer, PortalTime, Timing},
    error::{ApiFailure, ErrorCode, PortalError, TokenRefusal},
    gateway::{
        Gateway, GatewayFailure, GatewayKey, GatewayOptions, GatewayUrl, InvalidGatewayKey,
        InvalidGatewayUrl,
    },
    limiter::{
        InvalidQuietHours, Lane, Limiter, Limits, OperatingLimit, QuietHours, RehearsedLimiter,
        RehearsedPermit, Restraint, Share, WaitReason, Waiting,
    },
    source::{
        Ask, Chain, ChainEnd, Changes, Detail, DictionarySource, GatewaySource, Heard,
        HeardDictionaries, ListSource, Listed, MAX_COMMANDS, MailRecipientSource, PAGE_ROWS, Page,
        Probes, ProductRowAsk, ProductRowSource, RecipientPage, ScanAsk, Source,
    },
    tokens::{TokenFuture, TokenStore, TokenStoreError, Tokens, Turn},
};
