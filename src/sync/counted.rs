//! Counts as people read them.

use std::fmt::Display;

/// A number with what is counted: "1 record", "2 records".
pub(crate) fn counted<N>(number: N, one: &str) -> String
where
    N: Copy + Display + PartialEq + From<u8>,
{
    let several = if number == N::from(1) { "" } else { "s" };
    format!("{number} {one}{several}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_several() {
        assert_eq!(counted(0_i64, "record"), "0 records");
        assert_eq!(counted(1_u64, "record"), "1 record");
        assert_eq!(counted(2_usize, "record"), "2 records");
    }
}
