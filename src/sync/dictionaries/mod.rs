//! What the codes in records mean is read beside the records, and never in their way.
//!
//! # When
//! Soon after a daemon has begun, then once in an interval, and when a pass has written a
//! record with a code that no dictionary has: a new colleague, a new stage. A command that
//! reads records without a daemon reads beside them what is due, and at its end what they
//! made wanted; a backfill tries again what could not be read. When a dictionary was last asked for is in the database, so that commands
//! which run every minute do not read everything every minute.
//!
//! # Unknown codes
//! The codes that need no explanation any more are kept in memory (`codes`): a batch that
//! was written costs one look-up for each code in it. An unknown code asks for one reading.
//! The portal hides bots and mail users, and imports leave nonsense behind: what a fresh
//! reading does not bring is remembered for good, and asks no more.
//!
//! # What may be concluded
//! A row that is missing from a whole reading is marked as gone. A reading is whole when its
//! pages came to their end with as many rows as the portal counts, each with a usable key.
//! A row that is deleted between two pages moves the next page up by one, so what is missing
//! from several pages is looked for once more. A list that comes empty where there were rows
//! is a right that was lost.
//!
//! No failure here is one of an entity: it is noted, told by `status`, and tried again.

mod codes;
mod keeper;
mod timetable;

pub(super) use self::{
    codes::{Codes, Unsettled},
    keeper::Keeper,
};
