//! Campaigns: whatever goes wrong, nothing is missed, doubled or lost in silence.
//!
//! Each campaign is sized for everyday use, and much longer with `B24MIRROR_CAMPAIGN=long`.

mod cutter;
mod errors;
mod kills;
mod matrix;
mod paging;
mod postgres;
mod readers;
mod server;
mod stage;
mod work;
