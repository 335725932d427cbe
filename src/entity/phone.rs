//! Phone numbers in the one form that can be compared: E.164, a plus sign and digits.

use std::{fmt, str::FromStr};

use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumber, PhoneNumberFormat};

/// The library that tells numbers from their spelling, and its version: each version knows
/// newer numbering plans.
pub const LIBRARY: &str = "rlibphonenumber 2.2.15";

/// The countries that the library knows a numbering plan of. It could be asked, but its plans
/// take 7 MB as soon as they are: too much for a daemon that has no number to read.
const COUNTRIES: &str = "AC AD AE AF AG AI AL AM AO AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR \
    BS BT BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC \
    EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GT GU GW GY HK \
    HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB \
    LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY \
    MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PR PS PT PW PY QA RE RO RS \
    RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TA TC TD TG TH TJ TK TL \
    TM TN TO TR TT TV TW TZ UA UG US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW";

/// The country of numbers that are written without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region(rlibphonenumber::Region);

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_region_str().as_str())
    }
}

/// No numbering plan is known for a country.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no numbering plan is known for the country `{0}`; two letters are wanted, such as DE")]
pub struct UnknownRegion(String);

impl FromStr for Region {
    type Err = UnknownRegion;

    /// Reads the two letters of a country, in capitals or not.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownRegion(text.to_owned());
        let letters = text.trim().to_ascii_uppercase();
        if !COUNTRIES.split(' ').any(|known| known == letters) {
            return Err(unknown());
        }
        letters.parse().map(Self).map_err(|_| unknown())
    }
}

/// How numbers are told from their spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PhoneRules {
    /// The country of numbers that are written without one; without it only numbers with a
    /// plus sign are understood.
    pub region: Option<Region>,
}

impl PhoneRules {
    /// The E.164 form of a number as people type it; `None` where it is no valid number of
    /// any country. Extensions are left out.
    #[must_use]
    pub fn e164(self, typed: &str) -> Option<String> {
        let read = |text: &str| {
            let number = PHONE_NUMBER_UTIL.parse(text, self.region.map(|region| region.0)).ok();
            number.filter(PhoneNumber::is_valid)
        };
        let number = read(typed).or_else(|| read(without_remark(typed)?))?;
        Some(number.format_as(PhoneNumberFormat::E164).into_owned())
    }
}

/// What stands before a remark in words: people write whose number it is behind it.
fn without_remark(typed: &str) -> Option<&str> {
    let mut digits = 0;
    let mut space = None;
    for (at, c) in typed.char_indices() {
        match c {
            _ if c.is_numeric() => digits += 1,
            _ if c.is_whitespace() || matches!(c, '(' | ',' | ';' | '-') => {
                space.get_or_insert(at);
                continue;
            }
            _ if c.is_alphabetic() => {
                // Fewer digits are no number, and a word that begins at once is no remark.
                return typed.get(..space?).filter(|_| digits >= 7);
            }
            _ => {}
        }
        space = None;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn in_country(region: &str) -> PhoneRules {
        PhoneRules { region: Some(region.parse().unwrap()) }
    }

    #[test]
    fn every_spelling_of_a_number_is_one_number() {
        for typed in [
            "+79161234567",
            "8 (916) 123-45-67",
            "8-916-123-45-67",
            "79161234567",
            "9161234567",
            " +7 916 123 45 67 ",
            "tel:+79161234567",
            "+7 (916) 123-45-67 доб. 12",
            "+7 (916) 123-45-67 Иван",
            "8 916 123-45-67 (мама)",
            "8 10 7 916 123 45 67",
        ] {
            assert_eq!(in_country("RU").e164(typed).as_deref(), Some("+79161234567"), "{typed}");
        }
        assert_eq!(in_country("DE").e164("030 12345678").as_deref(), Some("+493012345678"));
        assert_eq!(in_country("de").e164("+7 916 123 45 67").as_deref(), Some("+79161234567"));
    }

    #[test]
    fn without_a_country_only_a_plus_sign_makes_a_number() {
        let nowhere = PhoneRules::default();
        assert_eq!(nowhere.e164("+49 30 12345678").as_deref(), Some("+493012345678"));
        for typed in ["8 (916) 123-45-67", "030 12345678", "9161234567"] {
            assert_eq!(nowhere.e164(typed), None, "{typed}");
        }
    }

    #[test]
    fn what_is_no_number_has_none() {
        for typed in [
            "",
            "нет",
            "123",
            "112",
            "123-45-67",
            "+71234567",
            "000000000000",
            "+79161234567, +79031234567",
            "7916a1234567b8c9",
            "91612345671234567890",
        ] {
            assert_eq!(in_country("RU").e164(typed), None, "{typed}");
        }
    }

    #[test]
    fn a_country_is_one_that_has_a_numbering_plan() {
        assert_eq!("kz".parse::<Region>().unwrap().to_string(), "KZ");
        for text in ["", " ", "XX", "ZZ", "Germany", "Ж", "001", "DE FR"] {
            assert!(text.parse::<Region>().is_err(), "{text}");
        }
        let mut known: Vec<String> = PHONE_NUMBER_UTIL
            .get_supported_regions()
            .map(|region| Region(region).to_string())
            .collect();
        known.sort_unstable();
        assert_eq!(known, COUNTRIES.split(' ').collect::<Vec<_>>());
    }

    #[test]
    fn the_library_is_the_one_that_is_built_in() {
        let lock = include_str!("../../Cargo.lock");
        let (name, version) = LIBRARY.split_once(' ').unwrap();
        assert!(lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"\n")));
    }

    proptest! {
        #[test]
        fn whatever_people_type_comes_out_short_and_the_same_again(typed in "[+0-9 ()a-zж.,/-]{0,40}|\\PC{0,40}") {
            if let Some(number) = in_country("RU").e164(&typed) {
                prop_assert!(number.len() <= 17 && number.starts_with('+'));
                prop_assert!(number[1..].bytes().all(|b| b.is_ascii_digit()));
                prop_assert_eq!(PhoneRules::default().e164(&number), Some(number));
            }
        }
    }
}
