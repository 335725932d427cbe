//! The gateway's envelope: `success`, `data`, `meta` and `error`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, error::Category, value::RawValue};

use super::{failure::GatewayFailure, key::GatewayKey};
use crate::portal::{
    body::Body,
    error::PortalError,
    source::{PAGE_ROWS, Page},
};

/// A good answer.
pub(in crate::portal) struct GatewayAnswer {
    path: String,
    body: Body,
    /// How many matched, if it says so; not always the truth above its own limits.
    pub(in crate::portal) total: Option<u64>,
    /// Whether it says that more follow.
    pub(in crate::portal) goes_on: bool,
    /// How long the request waited before it was sent.
    pub(in crate::portal) waited: Duration,
    /// The gateway's clock, by the header of the answer.
    pub(in crate::portal) date: Option<DateTime<Utc>>,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(default)]
    success: Option<bool>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    meta: Option<Value>,
    #[serde(default)]
    error: Option<Value>,
}

impl GatewayAnswer {
    /// Tells a good answer from every kind of bad one. `retry_after` is what the headers say.
    pub(super) fn read(
        path: &str,
        status: u16,
        body: Body,
        retry_after: Option<Duration>,
        key: &GatewayKey,
    ) -> Result<Self, PortalError> {
        let wire: Wire<'_> = parse(path, &body)?;
        let failed = wire.error.as_ref().filter(|error| !error.is_null());
        if wire.success == Some(false) || failed.is_some() {
            return Err(failure(path, status, failed, retry_after, key).into());
        }
        if !(200..300).contains(&status) {
            return Err(PortalError::Gateway { method: path.to_owned(), status });
        }
        if wire.data.is_none() {
            return Err(PortalError::unusable(path, "it has neither data nor an error"));
        }
        let said = |name: &str| wire.meta.as_ref().and_then(|meta| meta.get(name));
        let total = said("total").and_then(Value::as_u64);
        let yes = |name: &str| said(name).and_then(Value::as_bool) == Some(true);
        let goes_on = yes("hasMore") || yes("truncated");
        Ok(Self { path: path.to_owned(), total, goes_on, waited: Duration::ZERO, date: None, body })
    }

    /// What was asked for, unparsed.
    pub(in crate::portal) fn data(&self) -> Result<&RawValue, PortalError> {
        let wire: Wire<'_> = parse(&self.path, &self.body)?;
        wire.data.ok_or_else(|| PortalError::unusable(&self.path, "it has no data"))
    }

    /// The rows, where a list was asked for.
    pub(in crate::portal) fn rows(&self) -> Result<Vec<&RawValue>, PortalError> {
        let unusable = |_| PortalError::unusable(&self.path, "its data are no list of rows");
        serde_json::from_str(self.data()?.get()).map_err(unusable)
    }

    /// Rows of this answer as the pages that all sources hand on.
    pub(in crate::portal) fn pages(&self, rows: &[&RawValue]) -> Vec<Page> {
        rows.chunks(PAGE_ROWS).map(|rows| Page::new(&self.body, rows)).collect()
    }

    /// A page without rows.
    pub(in crate::portal) fn no_page(&self) -> Page {
        Page::new(&self.body, &[])
    }
}

fn parse<'a>(path: &str, body: &'a Body) -> Result<Wire<'a>, PortalError> {
    serde_json::from_str(body.json()).map_err(|error| match error.classify() {
        Category::Eof => PortalError::CutBody { method: path.to_owned(), bytes: body.len() },
        _ => PortalError::Garbled { method: path.to_owned() },
    })
}

fn failure(
    path: &str,
    status: u16,
    error: Option<&Value>,
    retry_after: Option<Duration>,
    key: &GatewayKey,
) -> GatewayFailure {
    let part = |name: &str| error.and_then(|error| error.get(name));
    let text = |name: &str| part(name).and_then(Value::as_str).unwrap_or_default();
    let seconds = part("retryAfter").and_then(Value::as_f64);
    let said = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let message = key.scrub(text("message"));
    GatewayFailure::new(path, text("code"), status, &message, said.or(retry_after))
}

impl From<GatewayFailure> for PortalError {
    fn from(failure: GatewayFailure) -> Self {
        Self::Vibecode(Box::new(failure))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::Disposition;

    fn read(status: u16, body: &str) -> Result<GatewayAnswer, PortalError> {
        let key = GatewayKey::new(&"vibe_api_hidden".into(), None).unwrap();
        let body = Body::new("contacts/search", status, body.as_bytes().into()).unwrap();
        GatewayAnswer::read("contacts/search", status, body, None, &key)
    }

    #[test]
    fn a_list_is_parted_into_pages() {
        let rows: Vec<String> = (1..=120).map(|id| format!("{{\"id\":{id}}}")).collect();
        let meta = r#""meta":{"total":7000,"hasMore":true}"#;
        let body = format!(r#"{{"success":true,"data":[{}],{meta}}}"#, rows.join(","));
        let answer = read(200, &body).unwrap();
        assert_eq!((answer.total, answer.goes_on), (Some(7000), true));
        let pages = answer.pages(&answer.rows().unwrap());
        assert_eq!(pages.iter().map(Page::len).collect::<Vec<_>>(), [50, 50, 20]);
        assert_eq!(pages[2].rows().last().unwrap().text(), r#"{"id":120}"#);
    }

    #[test]
    fn a_refusal_says_when_to_ask_again_and_hides_the_key() {
        let body = r#"{"success":false,"error":{"code":"RATE_LIMITED",
            "message":"vibe_api_hidden is too fast","retryAfter":7}}"#;
        let Err(PortalError::Vibecode(failure)) = read(429, body) else { panic!() };
        assert_eq!(failure.retry_after, Some(Duration::from_secs(7)));
        assert_eq!(failure.disposition(), Disposition::WaitPortal);
        assert_eq!(failure.message, "*** is too fast");
        // Inside of a 200 too.
        assert!(matches!(read(200, r#"{"success":false}"#), Err(PortalError::Vibecode(_))));
    }

    #[test]
    fn what_is_no_answer_never_passes_for_one() {
        assert!(matches!(read(200, r#"{"success":true,"da"#), Err(PortalError::CutBody { .. })));
        assert!(matches!(read(200, r#"{"success":true}"#), Err(PortalError::Unusable { .. })));
        assert!(matches!(read(502, r#"{"data":[]}"#), Err(PortalError::Gateway { .. })));
        let object = read(200, r#"{"success":true,"data":{}}"#).unwrap();
        assert!(matches!(object.rows(), Err(PortalError::Unusable { .. })));
    }
}
