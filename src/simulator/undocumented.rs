//! What the vendor's pages leave open about the portal itself, or say in two ways. Each is a
//! switch. The usual positions are what kernels and SDKs were seen to do; none is promised.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::portal::Failure;
use super::search::PAGE;

/// The positions of the switches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Undocumented {
    /// The status of refused credentials and scopes.
    pub refusal: Refusal,
    /// What a refusal for load says in `Retry-After`.
    pub retry_after: RetryAfter,
    /// What a `start` behind the end of a classic list brings.
    pub overrun: Overrun,
    /// The same in `crm.item.list`.
    pub item_overrun: ItemOverrun,
    /// Whether `crm.status.list` comes whole, whatever its `start`.
    pub whole_statuses: bool,
    /// What the keys of files are called.
    pub file_keys: FileKeys,
    /// Where counting ends, and with it the pages by `start`.
    pub counts_up_to: Option<usize>,
    /// What becomes of links to a contact or company that is deleted.
    pub unlinking: Unlinking,
    /// How REST 3.0 words what the portal itself refuses.
    pub newer_failures: NewerFailures,
    /// The order of the mail address book.
    pub recipient_order: RecipientOrder,
    /// How many of the latest entries the address book lists to whoever searches for nobody;
    /// all of them if absent.
    pub recipient_window: Option<usize>,
}

/// The status of refused credentials and scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// 401, as in the kernel.
    #[default]
    Unauthorized,
    /// 403, as in the documentation.
    Forbidden,
}

impl Refusal {
    pub(super) const fn status(self) -> u16 {
        match self {
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
        }
    }
}

/// What a refusal for load (503, 429) says in `Retry-After`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfter {
    /// There is no such header.
    #[default]
    Absent,
    /// So many seconds.
    Seconds(u32),
    /// The time in so many seconds, as a date.
    Date(u32),
    /// Something that is neither.
    Nonsense,
}

impl RetryAfter {
    /// The header's text.
    pub(super) fn text(self) -> Option<String> {
        match self {
            Self::Absent => None,
            Self::Seconds(seconds) => Some(seconds.to_string()),
            Self::Date(seconds) => {
                // The clock is that of whatever stands before the portal.
                let at = SystemTime::now() + Duration::from_secs(seconds.into());
                let at = DateTime::<Utc>::from(at);
                Some(at.format("%a, %d %b %Y %H:%M:%S GMT").to_string())
            }
            Self::Nonsense => Some("soon".to_owned()),
        }
    }

    /// The seconds in which nobody should ask again.
    pub(super) fn seconds(self) -> f64 {
        match self {
            Self::Absent | Self::Nonsense => 0.0,
            Self::Seconds(seconds) => f64::from(seconds),
            // It is cut down to a whole second.
            Self::Date(seconds) => f64::from(seconds.saturating_sub(1)),
        }
    }
}

/// What a `start` behind the end of a classic list brings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overrun {
    /// The first page once more.
    #[default]
    FirstPage,
    /// The last page once more.
    LastPage,
    /// An empty page.
    Nothing,
}

impl Overrun {
    /// The offset that is really read where so many rows match.
    pub(super) const fn offset(self, wanted: usize, total: usize) -> usize {
        if wanted < total {
            return wanted;
        }
        match self {
            Self::FirstPage => 0,
            Self::LastPage => total.saturating_sub(1) / PAGE * PAGE,
            Self::Nothing => wanted,
        }
    }
}

/// What a `start` behind the end of `crm.item.list` brings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemOverrun {
    /// An empty page.
    #[default]
    Nothing,
    /// The first page once more.
    FirstPage,
}

impl From<ItemOverrun> for Overrun {
    fn from(own: ItemOverrun) -> Self {
        match own {
            ItemOverrun::Nothing => Self::Nothing,
            ItemOverrun::FirstPage => Self::FirstPage,
        }
    }
}

/// What the keys of files are called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKeys {
    /// `id`, `showUrl`, `downloadUrl`; in items `id`, `url`, `urlMachine`.
    #[default]
    Camel,
    /// `ID`, `SHOW_URL`, `DOWNLOAD_URL`; in items `ID`, `URL`, `URL_MACHINE`.
    Upper,
    /// No keys: the file's number alone.
    Bare,
}

impl FileKeys {
    /// Each in its spelling, or none.
    pub(super) const fn of(
        self,
        camel: [&'static str; 3],
        upper: [&'static str; 3],
    ) -> Option<[&'static str; 3]> {
        match self {
            Self::Camel => Some(camel),
            Self::Upper => Some(upper),
            Self::Bare => None,
        }
    }
}

/// What becomes of links to a contact or company that is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unlinking {
    /// They stay.
    #[default]
    Stays,
    /// They go, and `DATE_MODIFY` of the linked records stays as it was.
    Quiet,
    /// They go, and `DATE_MODIFY` moves.
    Dated,
}

/// How REST 3.0 words what the portal itself refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NewerFailures {
    /// A lost scope in its own way, everything else in the classic one.
    #[default]
    Mixed,
    /// All of it as classic methods do.
    Classic,
    /// All of it in its own envelope, under the classic codes where it has none of its own.
    Newer,
}

impl NewerFailures {
    /// A refusal by the portal itself in the words of a call of REST 3.0.
    pub(super) fn word(self, mut failure: Failure) -> Failure {
        failure.nested = self == Self::Newer;
        failure
    }
}

/// The order of the mail address book.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecipientOrder {
    /// Who was added or used last comes first.
    #[default]
    Newest,
    /// By ascending ID.
    Id,
    /// By name, then by ID.
    Name,
}
