//! What the portal counts: load, refusals, and every trap that was really sprung.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Counters since the start or the last reset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// HTTP requests to `/rest/`, refused ones included.
    pub requests: u64,
    /// HTTP requests per method; a batch is `batch`.
    pub requests_by_method: BTreeMap<String, u64>,
    /// Commands executed, alone or in a batch, per method.
    pub commands: BTreeMap<String, u64>,
    /// Requests refused by the bucket (503).
    pub refusals: u64,
    /// Requests that came before the time that a refusal by the bucket had named.
    #[serde(default)]
    pub before_retry_after: u64,
    /// Commands refused by the operating limit (429, also inside a batch).
    pub operating_refusals: u64,
    /// Operating seconds booked per method.
    pub operating_seconds: BTreeMap<String, f64>,
    /// Highest operating sum per method in a window.
    pub operating_peak: BTreeMap<String, f64>,
    /// Times a method came so near its limit that another request like its last
    /// would have crossed it; a client that honours the budget stops there.
    pub operating_full: u64,
    /// Times a method came so near its limit that its next command would have crossed it.
    pub operating_near: u64,
    /// Requests after which the counter had reached the threshold.
    pub bucket_full: u64,
    /// Requests after which the counter and one second's drain were together above
    /// the threshold: as far as a client may go that cannot see when the second ticks.
    pub bucket_near: u64,
    /// The counter's highest value.
    pub bucket_peak: f64,
    /// COUNT queries made for `total`.
    pub counts: u64,
    /// The same by the method that asked for them.
    pub counts_by_method: BTreeMap<String, u64>,
    /// Rows served by lists of records, classic ones and `crm.item.list`.
    pub rows: u64,
    /// Of these, rows with all plain fields.
    pub rows_full: u64,
    /// Of these, rows with a few named fields only.
    pub rows_narrow: u64,
    /// Of all rows, those of chained commands that started over, because the page that
    /// they refer to was short or failed: served in vain to any right client.
    pub rows_restarted: u64,
    /// The most rows that the gateway has served in one answer.
    pub gateway_largest: usize,
    /// Answers of the gateway that could not hold everything that matched.
    pub gateway_truncated: u64,
    /// Bytes of answers.
    pub bytes: u64,
    /// HTTP faults served, by kind.
    pub faults: BTreeMap<String, u64>,
    /// Requests for new tokens, refused ones included.
    #[serde(default)]
    pub token_requests: u64,
    /// Pairs of tokens that were made.
    #[serde(default)]
    pub renewals: u64,
    /// Records written: created, changed, deleted, restored, merged or imported.
    pub writes: u64,
    /// How often a trap for careless clients was sprung, by its number (see
    /// [`TRAPS`]).
    pub traps: BTreeMap<u8, u64>,
}

impl Stats {
    /// How often a trap was sprung.
    #[must_use]
    pub fn trap(&self, number: u8) -> u64 {
        self.traps.get(&number).copied().unwrap_or(0)
    }

    pub(super) fn spring(&mut self, trap: u8) {
        self.spring_times(trap, 1);
    }

    pub(super) fn spring_times(&mut self, trap: u8, times: usize) {
        if times > 0 {
            *self.traps.entry(trap).or_default() += u64::try_from(times).unwrap_or(u64::MAX);
        }
    }

    pub(super) fn add(map: &mut BTreeMap<String, u64>, key: &str) {
        if let Some(count) = map.get_mut(key) {
            *count += 1;
        } else {
            map.insert(key.to_owned(), 1);
        }
    }
}

/// What each trap is.
pub const TRAPS: [(u8, &str); 39] = [
    (1, "an unknown or mis-cased filter key was dropped, or the filter was ignored"),
    (2, "a date could not be read and became IS NULL"),
    (3, "rows were served with total 0"),
    (4, "a start past the end wrapped to page 1"),
    (5, "START in upper case was ignored"),
    (6, "a chained command restarted because the page before was short"),
    (7, "a chained command restarted because the one before failed"),
    (8, "a batch answered 200 although every command failed"),
    (9, "a map of a batch answer went out as an array"),
    (10, "a record was written in a second that a filter had already served"),
    (11, "a request came while the portal's clock was a minute or more off"),
    (12, "the zone's offset changed between two requests"),
    (13, "a write became visible after its time of modification"),
    (14, "a record was restored under a new id with old times"),
    (15, "a record was imported with old times"),
    (16, "records were deleted, or hidden by a loss of rights"),
    (17, "records were merged"),
    (18, "multi-fields were left out of a select with *, or a key vanished with its last value"),
    (
        19,
        "multi-field values were served out of the order of their ids, or dates changed their clock",
    ),
    (20, "a row with odd empty forms was served"),
    (21, "a request was refused with 503"),
    (22, "a command was refused with OPERATION_TIME_LIMIT"),
    (23, "an authorization error was served whose status says little"),
    (24, "a refresh token came that was used before"),
    (25, "a redirect was served"),
    (26, "a body was HTML, cut or empty"),
    (27, "an error was served with status 200"),
    (28, "an error was served with an empty code"),
    (29, "a contact of another category was left out of a list"),
    (30, "the set of user fields changed"),
    (31, "a row with an unresolvable user was served"),
    (32, "a command lost part of its text to & # +"),
    (33, "a changed record escaped an upper bound on DATE_MODIFY"),
    (34, "a list was asked for without an order"),
    (35, "a row with the webhook's secret in an address was served"),
    (38, "a malformed JSON body was ignored"),
    (39, "the first = ended a filter key"),
    (40, "answers changed between escaped and plain writing"),
    (41, "rows were served out of the order of ids because no order was given"),
];
