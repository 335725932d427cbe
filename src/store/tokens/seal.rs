//! Encryption of what must not be read in the database.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose};
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom as _, SystemRandom},
};
use secrecy::{ExposeSecret as _, SecretBox};

/// The length of a key in bytes.
const KEY_BYTES: usize = 32;

/// The key that tokens are encrypted with. It is a setting and is never stored.
pub struct TokenKey(SecretBox<[u8; KEY_BYTES]>);

/// Why a key was refused. Never repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 32 bytes in hexadecimal or base64, as `openssl rand -hex 32` prints them")]
pub struct InvalidTokenKey;

/// Randomness was not to be had, or the text is too long: nothing was encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotSealed;

impl FromStr for TokenKey {
    type Err = InvalidTokenKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let bytes = from_hex(text)
            .or_else(|| general_purpose::STANDARD.decode(text).ok())
            .or_else(|| general_purpose::URL_SAFE_NO_PAD.decode(text).ok())
            .or_else(|| general_purpose::STANDARD_NO_PAD.decode(text).ok())
            .ok_or(InvalidTokenKey)?;
        let key: [u8; KEY_BYTES] = bytes.try_into().map_err(|_| InvalidTokenKey)?;
        // A key of one repeated byte was typed to have peace.
        if key.iter().all(|byte| *byte == key[0]) {
            return Err(InvalidTokenKey);
        }
        Ok(Self(SecretBox::new(Box::new(key))))
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 2 * KEY_BYTES || !text.is_ascii() {
        return None;
    }
    (0..KEY_BYTES).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()).collect()
}

impl Clone for TokenKey {
    fn clone(&self) -> Self {
        Self(SecretBox::new(Box::new(*self.0.expose_secret())))
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(…)")
    }
}

impl TokenKey {
    /// Encrypts a text and binds it to `bound`: a random nonce, then the encrypted text.
    pub(super) fn seal(&self, text: &[u8], bound: &[u8]) -> Result<Vec<u8>, NotSealed> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| NotSealed)?;
        let mut sealed = text.to_vec();
        self.cipher()?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(bound),
                &mut sealed,
            )
            .map_err(|_| NotSealed)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Decrypts it again; `None` when it was sealed with another key, or bound to something
    /// else, or was changed.
    pub(super) fn open(&self, sealed: &[u8], bound: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut text = sealed.to_vec();
        let length = self
            .cipher()
            .ok()?
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(bound), &mut text)
            .ok()?
            .len();
        text.truncate(length);
        Some(text)
    }

    fn cipher(&self) -> Result<LessSafeKey, NotSealed> {
        UnboundKey::new(&CHACHA20_POLY1305, self.0.expose_secret())
            .map(LessSafeKey::new)
            .map_err(|_| NotSealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const BASE64: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    #[test]
    fn a_key_is_read_in_both_forms_and_never_shown() {
        for text in [HEX, &HEX.to_uppercase(), BASE64, BASE64.trim_end_matches('=')] {
            let key: TokenKey = text.parse().unwrap();
            assert_eq!(key.0.expose_secret()[31], 31, "{text}");
            assert_eq!(format!("{key:?}"), "TokenKey(…)");
        }
        for text in ["", "secret", &HEX[2..], &"00".repeat(32), &"ж".repeat(32)] {
            let error = text.parse::<TokenKey>().unwrap_err();
            assert!(error.to_string().contains("openssl rand"), "{text}");
        }
    }

    #[test]
    fn what_is_sealed_opens_with_the_same_key_and_binding_only() {
        let key: TokenKey = HEX.parse().unwrap();
        let other: TokenKey = HEX.replace("00", "ff").parse().unwrap();
        let sealed = key.seal(b"a pair of tokens", b"portal").unwrap();
        assert_eq!(key.open(&sealed, b"portal").unwrap(), b"a pair of tokens");
        assert_eq!(key.open(&sealed, b"another portal"), None);
        assert_eq!(other.open(&sealed, b"portal"), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(key.open(&changed, b"portal"), None, "byte {at}");
        }
        assert_eq!(key.open(&sealed[..5], b"portal"), None);
        assert_ne!(key.seal(b"a pair of tokens", b"portal").unwrap(), sealed, "the nonce differs");
        assert!(!sealed.windows(6).any(|part| part == b"tokens"));
    }
}
