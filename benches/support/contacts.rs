//! Every contact of a simulated portal, page by page, as the portal writes them.

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::http;

/// Every field, as a client that wants all of a contact names them.
const SELECT: &str = "select[]=PHONE&select[]=EMAIL&select[]=WEB&select[]=IM&select[]=LINK\
                      &select[]=*&select[]=UF_*";

/// The answer to one list call.
#[derive(Deserialize)]
pub(crate) struct Answer<'a> {
    /// The rows, each one JSON text.
    #[serde(borrow)]
    pub(crate) result: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Key<'a> {
    #[serde(rename = "ID", borrow)]
    id: &'a RawValue,
}

/// Reads the contacts behind a webhook one page after another, and shows each answer.
pub(crate) fn read_all(webhook: &str, mut each: impl FnMut(Vec<u8>)) -> anyhow::Result<()> {
    let mut after = "0".to_owned();
    loop {
        let query = format!("order[ID]=ASC&filter[%3EID]={after}&{SELECT}&start=-1");
        let bytes = http::call(&format!("{webhook}crm.contact.list?{query}"), None)?;
        let answer: Answer<'_> = serde_json::from_slice(&bytes).context("a page is no page")?;
        let Some(last) = answer.result.last() else { return Ok(()) };
        let key: Key<'_> = serde_json::from_str(last.get()).context("a row has no ID")?;
        key.id.get().trim_matches('"').clone_into(&mut after);
        each(bytes);
    }
}
