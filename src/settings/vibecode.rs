//! The section `[portal.vibecode]`: the gateway before the portal.

use std::time::Duration;

use secrecy::SecretString;

use super::{SettingsError, values::Values};
use crate::portal::{GatewayUrl, PortalHost};

/// The key that says that there is a gateway alone.
pub(super) const PORTAL_HOST: &str = "portal.vibecode.portal_host";

/// The section `[portal.vibecode]`.
#[derive(Debug, Clone)]
pub struct VibecodeSettings {
    /// The gateway's address.
    pub url: GatewayUrl,
    /// The portal behind it, where there is nothing that opens the portal itself.
    pub portal_host: Option<PortalHost>,
    /// The key. Only entities with `source = "vibecode"` need one.
    pub api_key: Option<SecretString>,
    /// The session of a user, where the key is an application's.
    pub session_token: Option<SecretString>,
    /// The key's limit.
    pub requests_per_minute: u32,
    /// Between two readings of everything, where changes cannot be asked for.
    pub full_pass_interval: Duration,
}

impl VibecodeSettings {
    /// The key, for what is read through the gateway.
    pub fn api_key(&self) -> Result<&SecretString, SettingsError> {
        self.api_key.as_ref().ok_or(SettingsError::Missing {
            key: "portal.vibecode.api_key",
            instead: "; entities with `source = \"vibecode\"` are read with it",
        })
    }
}

pub(super) fn read(values: &Values) -> Result<VibecodeSettings, SettingsError> {
    let key = "portal.vibecode.url";
    let url = values.text(key)?.unwrap_or_else(|| GatewayUrl::VENDORS.to_owned());
    let url =
        url.parse().map_err(|error| values.invalid(key, format!("cannot be used: {error}")))?;
    let portal_host = match values.text(PORTAL_HOST)? {
        Some(host) => Some(
            host.parse()
                .map_err(|error| values.invalid(PORTAL_HOST, format!("cannot be used: {error}")))?,
        ),
        None => None,
    };
    Ok(VibecodeSettings {
        url,
        portal_host,
        api_key: secret(
            values,
            ["portal.vibecode.api_key", "portal.vibecode.api_key_file"],
            "vibecode_api_key",
        )?,
        session_token: secret(
            values,
            ["portal.vibecode.session_token", "portal.vibecode.session_token_file"],
            "vibecode_session_token",
        )?,
        requests_per_minute: values.whole(
            "portal.vibecode.requests_per_minute",
            1..=1_000_000,
            300,
        )?,
        full_pass_interval: values.duration(
            "portal.vibecode.full_pass_interval",
            Duration::from_secs(1)..=Duration::from_hours(24 * 366),
            Duration::from_hours(1),
        )?,
    })
}

/// A secret in the settings, in a file of its own, or among systemd's credentials.
fn secret(
    values: &Values,
    keys: [&'static str; 2],
    credential: &str,
) -> Result<Option<SecretString>, SettingsError> {
    let [_, in_file] = keys;
    Ok(match values.one_of(&keys)? {
        Some(key) if key == in_file => Some(values.secret_in_file(key)?),
        Some(key) => Some(values.secret(key)?),
        None => values.credential(credential)?.map(|(secret, _)| secret),
    })
}
