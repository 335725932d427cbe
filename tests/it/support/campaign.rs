//! Campaigns are sized for everyday use, and much longer where somebody asks for it.

/// Whether `B24MIRROR_CAMPAIGN=long` asks for the long setting.
pub(crate) fn long() -> bool {
    std::env::var("B24MIRROR_CAMPAIGN").is_ok_and(|setting| setting == "long")
}
