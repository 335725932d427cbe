//! Lists of records that are read page by page: `crm.contact.list` and its like, and
//! `crm.item.list`. What they word differently is in `wording.rs`.
//!
//! Pages are chained by ID inside one batch: the first command names the ID to start
//! after, each follower refers to the last row of the page before it. With `start=-1`
//! the portal counts nothing and always returns the first 50 of the order (vendor page
//! `huge-data`). When a page has fewer than 50 rows the next reference has no target,
//! the portal puts something else in its place, and the rest of the chain starts from
//! the beginning of the table: so everything after a short page is thrown away.
//!
//! Classic lists match filter keys letter by letter and drop them silently when unknown, and
//! a date that the portal cannot read matches nothing. The probes ask two questions whose
//! answers are known, written by the same code as the real ones.

use chrono::{DateTime, FixedOffset};
use serde_json::{Map, Value, json};

use super::{
    Ask, Chain, ChainEnd, Detail, Heard, MAX_COMMANDS, PAGE_ROWS, Probes, ScanAsk, wording::Wording,
};
use crate::{
    entity::{Dialect, Entity},
    portal::{BatchAnswer, Commands, Lane, Patience, Portal, PortalError, limiter::Demand},
};

/// The commands that stand beside the scans.
const CATALOGUE: &str = "fields";
const PAST: &str = "past";
const FUTURE: &str = "future";
const COUNT: &str = "count";

/// Before every record. Not the first second of 1970, whose number is zero and so
/// "nothing" to a careless server.
pub(super) const LONG_AGO: &str = "1970-01-02T00:00:00+00:00";

/// After every record, however wrong its author's clock was.
pub(super) const FAR_AHEAD: &str = "2999-01-01T00:00:00+00:00";

/// Reads one entity by a list.
#[derive(Debug, Clone)]
pub struct ListSource {
    portal: Portal,
    entity: &'static Entity,
    wording: Wording,
    left_out: Vec<&'static str>,
}

impl ListSource {
    /// Reads that entity from that portal; as items where it has no list of its own.
    #[must_use]
    pub fn new(portal: Portal, entity: &'static Entity, dialect: Dialect) -> Self {
        Self { portal, entity, wording: Wording::of(entity, dialect), left_out: Vec::new() }
    }

    /// How rows come.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.wording.dialect
    }

    /// The method that lists the records; the portal's operating time is counted by it.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        self.wording.list
    }

    /// The same without these multi-fields, which are not asked for then, where the dialect
    /// can do without.
    ///
    /// Other fields cannot be left out: only `*` brings those that are not documented yet.
    #[must_use]
    pub fn leaving_out(self, left_out: Vec<&'static str>) -> Self {
        Self { left_out, ..self }
    }

    /// Asks everything in one batch request and walks the answer.
    ///
    /// Chains are cut to what fits into 50 commands and into the operating time that the
    /// method has left for this lane; a chain cut short ends [`ChainEnd::Full`], like any
    /// other that may go on. A failed page ends its own chain only.
    ///
    /// # Errors
    /// What [`Portal::batch`] returns, and [`PortalError::Inexpressible`] for a question
    /// that no batch can carry.
    pub async fn read(
        &self,
        lane: Lane,
        ask: &Ask,
        patience: Patience,
    ) -> Result<Heard, PortalError> {
        let least = chain_lengths(ask, 0);
        let longest = chain_lengths(ask, usize::MAX);
        let calls = self.commands(ask, &least)?.by_method();
        let extra = longest.iter().sum::<usize>() - least.len();
        let demand =
            Demand { calls, extra: (extra > 0).then(|| (self.method().to_owned(), extra)) };
        let build = |extra| self.commands(ask, &chain_lengths(ask, extra));
        let (commands, mut answer) =
            self.portal.elastic_batch(lane, &demand, build, patience).await?;
        Ok(self.heard(ask, &commands, &mut answer))
    }

    fn commands(&self, ask: &Ask, lengths: &[usize]) -> Result<Commands, PortalError> {
        let list = self.method();
        let id = self.dialect().id();
        let mut commands = Commands::new();
        for (chain, (scan, length)) in ask.scans.iter().zip(lengths).enumerate() {
            if scan.ids.as_ref().is_some_and(|ids| ids.len() > PAGE_ROWS) {
                return Err(PortalError::Inexpressible {
                    method: list.to_owned(),
                    what: format!("more than {PAGE_ROWS} IDs do not fit on a page"),
                });
            }
            for page in 0..*length {
                let params = self.page_params(scan, chain, page);
                commands.push_list(&key(chain, page), list, &params, self.wording.rows)?;
            }
        }
        if let Some(fields) = self.wording.fields.filter(|_| ask.catalogue) {
            commands.push(CATALOGUE, fields, &self.wording.with(json!({})))?;
        }
        if ask.probes {
            for (key, date) in [(PAST, LONG_AGO), (FUTURE, FAR_AHEAD)] {
                let date = DateTime::parse_from_rfc3339(date)
                    .map_err(|error| PortalError::unusable(list, error.to_string()))?;
                let modified = format!(">{}", self.dialect().modified(self.entity));
                let params = self.wording.with(json!({
                    "select": [id],
                    "order": { id: "ASC" },
                    "filter": { modified: timestamp(date) },
                    "start": -1,
                }));
                commands.push_list(key, list, &params, self.wording.rows)?;
            }
        }
        // Without a condition, and with a `start` that counts.
        let counted = json!({ "select": [id], "order": { id: "ASC" }, "start": 0 });
        let counted = self.wording.with(counted);
        if ask.count {
            commands.push(COUNT, list, &counted)?;
        }
        for (place, (after, up_to)) in ask.counts.iter().enumerate() {
            let mut params = counted.clone();
            params["filter"] = json!({ format!(">{id}"): after.get() });
            if let Some(up_to) = up_to {
                params["filter"][format!("<={id}")] = json!(up_to.get());
            }
            commands.push(&count_key(place), list, &params)?;
        }
        Ok(commands)
    }

    fn page_params(&self, scan: &ScanAsk, chain: usize, page: usize) -> Value {
        let (id, modified) = (self.dialect().id(), self.dialect().modified(self.entity));
        let mut filter = Map::new();
        filter.insert(format!(">{id}"), json!(scan.after.get()));
        if let Some(up_to) = scan.up_to {
            filter.insert(format!("<={id}"), json!(up_to.get()));
        }
        if let Some(ids) = &scan.ids {
            let mut ids: Vec<i64> = ids.iter().map(|id| id.get()).collect();
            if ids.is_empty() {
                // An empty list would drop the condition; no record has the ID 0.
                ids.push(0);
            }
            filter.insert(format!("@{id}"), json!(ids));
        }
        if let Some(date) = scan.modified_after {
            filter.insert(format!(">{modified}"), json!(timestamp(date)));
        }
        if let Some(date) = scan.modified_up_to {
            filter.insert(format!("<={modified}"), json!(timestamp(date)));
        }
        if page > 0 {
            let rows = self.wording.rows.path();
            let last = PAGE_ROWS - 1;
            let reference = format!("$result[{}]{rows}[{last}][{id}]", key(chain, page - 1));
            let bound = if scan.newest_first { '<' } else { '>' };
            filter.insert(format!("{bound}{id}"), json!(reference));
        }
        self.wording.with(json!({
            "select": self.select(scan.detail),
            "order": { id: if scan.newest_first { "DESC" } else { "ASC" } },
            "filter": filter,
            "start": -1,
        }))
    }

    fn select(&self, detail: Detail) -> Vec<&'static str> {
        match detail {
            Detail::Keys => vec![self.dialect().id(), self.dialect().modified(self.entity)],
            Detail::Full => self.wording.everything(self.entity, &self.left_out),
        }
    }

    fn heard(&self, ask: &Ask, commands: &Commands, answer: &mut BatchAnswer) -> Heard {
        let scans = (0..ask.scans.len()).map(|chain| walk(chain, commands, answer)).collect();
        let catalogue = ask.catalogue.then(|| match self.wording.fields {
            Some(fields) => {
                answer.take(CATALOGUE).and_then(|answer| self.wording.described(fields, answer))
            }
            None => Wording::undescribed(),
        });
        let probes = ask.probes.then(|| {
            Ok(Probes {
                past_gave_rows: !answer.take_page(PAST)?.is_empty(),
                future_gave_none: answer.take_page(FUTURE)?.is_empty(),
            })
        });
        let mut total = |key: &str| {
            let uncounted = || PortalError::unusable(COUNT, "it does not say how many there are");
            answer.take(key)?.total.ok_or_else(uncounted)
        };
        let count = ask.count.then(|| total(COUNT));
        let counts = (0..ask.counts.len()).map(|place| total(&count_key(place))).collect();
        let (time, timing) = (answer.time, answer.timing);
        Heard { scans, catalogue, probes, count, counts, time, told_at: None, timing }
    }
}

/// Takes the pages of a chain as long as each is the true successor of the last.
fn walk(chain: usize, commands: &Commands, answer: &mut BatchAnswer) -> Chain {
    let mut pages = Vec::new();
    let asked =
        (0..MAX_COMMANDS).map(|page| key(chain, page)).take_while(|key| commands.contains(key));
    for key in asked {
        match answer.take_page(&key) {
            Ok(page) => {
                let short = page.len() < PAGE_ROWS;
                pages.push(page);
                if short {
                    return Chain { pages, end: ChainEnd::Short };
                }
            }
            Err(error) => return Chain { pages, end: ChainEnd::Failed(error) },
        }
    }
    Chain { pages, end: ChainEnd::Full }
}

/// The key of a page's command: text, so that the answer keeps it.
fn key(chain: usize, page: usize) -> String {
    format!("c{chain}p{page:02}")
}

/// The key of a range's count: text, so that the answer keeps it.
fn count_key(place: usize) -> String {
    format!("{COUNT}{place:02}")
}

/// A date as the portal documents it; its offset makes it an instant.
pub(super) fn timestamp(date: DateTime<FixedOffset>) -> String {
    date.format("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

/// Cuts the chains to so many pages beyond the first of each, and to what one request
/// can carry; always from the longest, and never to nothing.
fn chain_lengths(ask: &Ask, extra: usize) -> Vec<usize> {
    let others =
        usize::from(ask.catalogue) + usize::from(ask.count) + if ask.probes { 2 } else { 0 };
    let others = others + ask.counts.len();
    let room = ask.scans.len().saturating_add(extra);
    let room = room.min(MAX_COMMANDS.saturating_sub(others));
    let mut lengths: Vec<usize> =
        ask.scans.iter().map(|scan| scan.pages.clamp(1, MAX_COMMANDS)).collect();
    while lengths.iter().sum::<usize>() > room {
        match lengths.iter_mut().max() {
            Some(longest) if *longest > 1 => *longest -= 1,
            _ => break,
        }
    }
    lengths
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    use serde_json::json;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;
    use crate::{
        entity::{CONTACTS, RecordId},
        portal::{Limits, PortalOptions, WebhookUrl},
        retry::{Disposition, RetryPolicy},
    };

    /// A portal that answers every batch with what a function says, and shows the commands.
    async fn source(
        answer: impl Fn(&str) -> Option<Value> + Send + 'static,
    ) -> (ListSource, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = String::new();
                let batch: Value = loop {
                    let mut buffer = vec![0; 65_536];
                    let read = stream.read(&mut buffer).await.unwrap();
                    request.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
                    let body = request.split_once("\r\n\r\n").map_or("", |(_, body)| body);
                    if let Ok(batch) = serde_json::from_str(body) {
                        break batch;
                    }
                };
                let commands = batch["cmd"].as_object().unwrap();
                let (mut results, mut errors) = (Map::new(), Map::new());
                for (key, command) in commands {
                    seen.lock().unwrap().push(format!("{key} {}", command.as_str().unwrap()));
                    match answer(key) {
                        Some(result) => results.insert(key.clone(), result),
                        None => errors.insert(key.clone(), json!({ "error": "", "error_description": "Failed to get list. General error." })),
                    };
                }
                let body = json!({
                    "result": { "result": results, "result_error": errors },
                    "time": { "start": 5.0, "date_start": "1970-01-01T03:00:05+03:00" },
                })
                .to_string();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
            }
        });
        let options = PortalOptions {
            credentials: WebhookUrl::parse(&format!("http://{address}/rest/1/abc/"))
                .unwrap()
                .into(),
            timeout: Duration::from_secs(5),
            max_body: 1 << 20,
            ca_file: None,
            limits: Limits { requests_per_second: 100.0, burst: 1_000, operating: None },
            retry: RetryPolicy::new(1, Duration::from_millis(1), Duration::from_millis(1)).unwrap(),
        };
        let source = ListSource::new(Portal::new(options).unwrap(), &CONTACTS, Dialect::Classic);
        (source, asked)
    }

    fn scan(pages: usize) -> ScanAsk {
        ScanAsk { pages, ..ScanAsk::keys_above(RecordId::ZERO) }
    }

    fn ask(scans: Vec<ScanAsk>) -> Ask {
        Ask { scans, ..Ask::default() }
    }

    fn rows(count: usize) -> Value {
        (0..count).map(|id| json!({ "ID": id.to_string() })).collect()
    }

    fn decoded(line: &str) -> String {
        percent_encoding::percent_decode_str(line).decode_utf8().unwrap().into_owned()
    }

    #[tokio::test]
    async fn a_chain_refers_from_page_to_page_and_names_every_field() {
        let (source, asked) = source(|_| Some(rows(50))).await;
        let mut first = scan(2);
        first.after = RecordId::new(7).unwrap();
        first.up_to = RecordId::new(4_000_000_000);
        first.modified_after = DateTime::parse_from_rfc3339("2024-05-01T10:00:00.9+03:00").ok();
        first.detail = Detail::Full;
        let mut second = scan(2);
        second.newest_first = true;
        let scans = vec![first, second];
        let counts = vec![(RecordId::ZERO, RecordId::new(7)), (RecordId::new(7).unwrap(), None)];
        let question = Ask { scans, catalogue: true, probes: true, count: true, counts };
        source.read(Lane::Incremental, &question, Patience::Persist).await.unwrap();
        let full = "select[0]=PHONE&select[1]=EMAIL&select[2]=WEB&select[3]=IM&select[4]=LINK&select[5]=*&select[6]=UF_*&start=-1";
        let keys = "select[0]=ID&select[1]=DATE_MODIFY&start=-1";
        let date = "filter[>DATE_MODIFY]=2024-05-01T10:00:00+03:00";
        let mut expected = vec![
            format!("c0p00 crm.contact.list?filter[<=ID]=4000000000&{date}&filter[>ID]=7&order[ID]=ASC&{full}"),
            format!("c0p01 crm.contact.list?filter[<=ID]=4000000000&{date}&filter[>ID]=$result[c0p00][49][ID]&order[ID]=ASC&{full}"),
            format!("c1p00 crm.contact.list?filter[>ID]=0&order[ID]=DESC&{keys}"),
            format!("c1p01 crm.contact.list?filter[<ID]=$result[c1p00][49][ID]&filter[>ID]=0&order[ID]=DESC&{keys}"),
            "fields crm.contact.fields".to_owned(),
            "count crm.contact.list?order[ID]=ASC&select[0]=ID&start=0".to_owned(),
            "count00 crm.contact.list?filter[<=ID]=7&filter[>ID]=0&order[ID]=ASC&select[0]=ID&start=0".to_owned(),
            "count01 crm.contact.list?filter[>ID]=7&order[ID]=ASC&select[0]=ID&start=0".to_owned(),
            "past crm.contact.list?filter[>DATE_MODIFY]=1970-01-02T00:00:00+00:00&order[ID]=ASC&select[0]=ID&start=-1".to_owned(),
            "future crm.contact.list?filter[>DATE_MODIFY]=2999-01-01T00:00:00+00:00&order[ID]=ASC&select[0]=ID&start=-1".to_owned(),
        ];
        let mut sent: Vec<String> =
            asked.lock().unwrap().iter().map(|line| decoded(line)).collect();
        expected.sort();
        sent.sort();
        assert_eq!(sent, expected);
    }

    #[tokio::test]
    async fn everything_after_a_short_page_is_thrown_away() {
        let (source, _) = source(|key| Some(rows(if key == "c0p01" { 3 } else { 50 }))).await;
        let heard =
            source.read(Lane::Backfill, &ask(vec![scan(5)]), Patience::Persist).await.unwrap();
        let chain = &heard.scans[0];
        assert_eq!(chain.pages.iter().map(crate::portal::Page::len).collect::<Vec<_>>(), [50, 3]);
        assert!(matches!(chain.end, ChainEnd::Short));
        assert_eq!(chain.pages[1].rows().nth(2).unwrap().text(), r#"{"ID":"2"}"#);
        assert_eq!(heard.time.unwrap().offset_seconds, 10_800);
    }

    #[tokio::test]
    async fn everything_after_a_failed_page_is_thrown_away_and_other_chains_stand() {
        let (source, _) = source(|key| (key != "c0p02").then(|| rows(50))).await;
        let question = ask(vec![scan(5), scan(2)]);
        let heard = source.read(Lane::Backfill, &question, Patience::Persist).await.unwrap();
        assert_eq!(heard.scans[0].pages.len(), 2);
        assert!(
            matches!(&heard.scans[0].end, ChainEnd::Failed(e) if e.disposition() == Disposition::RetryFew)
        );
        assert_eq!(heard.scans[1].pages.len(), 2);
        assert!(matches!(heard.scans[1].end, ChainEnd::Full));
    }

    #[tokio::test]
    async fn a_page_that_is_no_list_is_a_failed_page() {
        for wrong in [json!({ "items": [] }), json!("x"), json!(null), json!({ "ID": "1" })] {
            let (source, _) = source(move |_| Some(wrong.clone())).await;
            let heard =
                source.read(Lane::Backfill, &ask(vec![scan(1)]), Patience::Persist).await.unwrap();
            assert!(matches!(&heard.scans[0].end, ChainEnd::Failed(PortalError::Unusable { .. })));
            assert!(heard.scans[0].pages.is_empty());
        }
    }

    #[tokio::test]
    async fn probes_and_catalogue_answer_for_themselves() {
        let question = Ask { catalogue: true, probes: true, ..Ask::default() };
        for (past, future) in [(1, 0), (0, 0), (50, 50)] {
            let (source, _) = source(move |key| match key {
                PAST => Some(rows(past)),
                FUTURE => Some(rows(future)),
                _ => Some(json!({ "ID": {} })),
            })
            .await;
            let heard = source.read(Lane::Incremental, &question, Patience::Persist).await.unwrap();
            let probes = heard.probes.unwrap().unwrap();
            assert_eq!(probes.past_gave_rows, past > 0);
            assert_eq!(probes.future_gave_none, future == 0);
            assert_eq!(heard.catalogue.unwrap().unwrap().get(), r#"{"ID":{}}"#);
        }
        let (source, _) = source(|_| None).await;
        let heard = source.read(Lane::Incremental, &question, Patience::Persist).await.unwrap();
        assert!(heard.probes.unwrap().is_err());
        assert!(heard.catalogue.unwrap().is_err());
    }

    #[tokio::test]
    async fn no_ids_find_nothing_and_too_many_are_refused() {
        let (source, asked) = source(|_| Some(rows(0))).await;
        let mut none = scan(1);
        none.ids = Some(Vec::new());
        source.read(Lane::Sweep, &ask(vec![none]), Patience::Persist).await.unwrap();
        assert!(decoded(&asked.lock().unwrap()[0]).contains("filter[@ID][0]=0&"));
        let mut many = scan(1);
        many.ids = Some(vec![RecordId::new(1).unwrap(); 51]);
        let error =
            source.read(Lane::Sweep, &ask(vec![many]), Patience::Persist).await.unwrap_err();
        assert_eq!(error.disposition(), Disposition::CallerBug);
    }

    #[test]
    fn chains_share_what_a_request_can_carry() {
        let lengths = |pages: &[usize], extras: bool, extra: usize| {
            let question = Ask {
                scans: pages.iter().map(|pages| scan(*pages)).collect(),
                catalogue: extras,
                probes: extras,
                ..Ask::default()
            };
            chain_lengths(&question, extra)
        };
        assert_eq!(lengths(&[50], false, usize::MAX), [50]);
        assert_eq!(lengths(&[999], true, usize::MAX), [47]);
        assert_eq!(lengths(&[50, 3], true, usize::MAX), [44, 3]);
        assert_eq!(lengths(&[50, 50], false, usize::MAX), [25, 25]);
        assert_eq!(lengths(&[0, 1], false, usize::MAX), [1, 1]);
        assert_eq!(lengths(&[50, 2], true, 5), [5, 2]);
        assert_eq!(lengths(&[50, 50], true, 0), [1, 1]);
    }
}
