//! Campaigns: whatever goes wrong, nothing is missed, doubled or lost in silence.
//!
//! Each campaign is sized for everyday use, and much longer with `B24MIRROR_CAMPAIGN=long`.

mod cutter;
mod dice;
mod errors;
mod kills;
mod matrix;
mod paging;
mod postgres;
mod readers;
mod server;
mod stage;
mod work;

/// Whether the long setting was asked for.
fn long() -> bool {
    std::env::var("B24MIRROR_CAMPAIGN").is_ok_and(|setting| setting == "long")
}
