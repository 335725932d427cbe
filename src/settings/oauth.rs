//! The section `[portal.oauth]`: an application instead of a webhook.

use secrecy::{ExposeSecret as _, SecretString};

use super::{error::SettingsError, keys::KEYS, values::Values};
use crate::{
    portal::{Application, ApplicationOptions, InvalidApplication},
    store::TokenKey,
};

/// The section `[portal.oauth]`.
#[derive(Debug, Clone)]
pub struct OAuthSettings {
    /// The application.
    pub application: Application,
    /// What its tokens are encrypted with.
    pub token_key: TokenKey,
}

/// A secret that may stand in three places.
struct Secret {
    key: &'static str,
    file: &'static str,
    credential: &'static str,
    what: &'static str,
}

const CLIENT_SECRET: Secret = Secret {
    key: "portal.oauth.client_secret",
    file: "portal.oauth.client_secret_file",
    credential: "oauth_client_secret",
    what: "the application's secret key, from its page in the portal",
};

const REFRESH_TOKEN: Secret = Secret {
    key: "portal.oauth.refresh_token",
    file: "portal.oauth.refresh_token_file",
    credential: "oauth_refresh_token",
    what: "the refresh token that the portal gave out when the application was authorized",
};

const TOKEN_KEY: Secret = Secret {
    key: "portal.oauth.token_key",
    file: "portal.oauth.token_key_file",
    credential: "oauth_token_key",
    what: "32 bytes to encrypt the stored tokens with, such as `openssl rand -hex 32` prints them",
};

/// What the section's keys begin with; any of them means that an application is wanted.
const SECTION: &str = "portal.oauth.";

/// The first key of the section that is set, if any is.
pub(super) fn first_key(values: &Values) -> Option<&'static str> {
    KEYS.iter().copied().find(|key| key.starts_with(SECTION) && values.is_set(key))
}

/// Reads the section, which must be whole if it is there at all.
pub(super) fn read(values: &Values) -> Result<Option<OAuthSettings>, SettingsError> {
    if first_key(values).is_none() {
        return Ok(None);
    }
    let host = required(
        values,
        "portal.oauth.host",
        "the portal's host, such as \"example.bitrix24.com\"",
    )?;
    let client_id = required(
        values,
        "portal.oauth.client_id",
        "the application's code, such as \"local.573ad8a0346747.09223434\"",
    )?;
    let client_secret = CLIENT_SECRET.read(values)?;
    let refresh_token = REFRESH_TOKEN.read(values)?;
    let token_key = TOKEN_KEY.read(values)?;
    let token_server = values.text("portal.oauth.token_server")?;
    let options =
        ApplicationOptions { host, client_id, client_secret, refresh_token, token_server };
    let application = Application::new(options).map_err(|error| match error {
        InvalidApplication::Host => values.invalid(
            "portal.oauth.host",
            "must be the portal's host and nothing else, such as \"example.bitrix24.com\"",
        ),
        InvalidApplication::TokenServer => values.invalid(
            "portal.oauth.token_server",
            "must be an address that begins with https://, such as \
             \"https://oauth.bitrix.info/oauth/token/\" (http:// is accepted for 127.0.0.1 only)",
        ),
    })?;
    let token_key = token_key.expose_secret().parse().map_err(|error| {
        let key = TOKEN_KEY.set_by(values);
        values.invalid(key, format!("{error}"))
    })?;
    Ok(Some(OAuthSettings { application, token_key }))
}

fn required(values: &Values, key: &'static str, what: &str) -> Result<String, SettingsError> {
    values.text(key)?.ok_or_else(|| values.invalid(key, format!("is not set; give {what}")))
}

impl Secret {
    fn read(&self, values: &Values) -> Result<SecretString, SettingsError> {
        let found = match values.one_of(&[self.key, self.file])? {
            Some(key) if key == self.key => Some(values.secret(key)?),
            Some(file) => Some(values.secret_in_file(file)?),
            None => values.credential(self.credential)?.map(|(secret, _)| secret),
        };
        found.ok_or_else(|| {
            values.invalid(
                self.key,
                format!(
                    "is not set; give {}, here, in a file that `{}` names, or as the systemd \
                     credential `{}`",
                    self.what, self.file, self.credential
                ),
            )
        })
    }

    /// The key that names the value, for an error about it.
    fn set_by(&self, values: &Values) -> &'static str {
        if values.is_set(self.file) { self.file } else { self.key }
    }
}
