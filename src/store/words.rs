//! Enumerations that a column stores as a word.

/// Gives an enumeration the words that its column stores, one per variant.
macro_rules! stored_words {
    ($name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $name {
            /// The word that the database stores.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            fn from_word(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

pub(super) use stored_words;

/// A count as the database stores it.
pub(super) fn stored_count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A count read back; what the mirror stores is never negative.
pub(super) fn read_count(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}
