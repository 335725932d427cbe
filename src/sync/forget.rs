//! `forget`: given records removed from everywhere, and kept out for as long as the portal
//! has them.

use serde_json::{Map, json};

use super::{SyncError, ending::Findings, mirror::Mirror};
use crate::{entity::RecordId, store::Verdict};

impl Mirror {
    /// Forgets records, whether or not the mirror has them. What is told of it names none.
    ///
    /// # Errors
    /// [`SyncError::Store`]; nothing may have been removed then.
    pub(super) async fn forget(&self, records: &[RecordId]) -> Result<Findings, SyncError> {
        let entity = self.entity();
        let removed = self.store().forget(self.generation(), entity, records).await?;
        let rows: Vec<String> =
            removed.iter().map(|removed| format!("{} {}", removed.rows, removed.table)).collect();
        let rows = if rows.is_empty() { "nothing".to_owned() } else { rows.join(", ") };
        let line = match records.len() {
            // The holder that died has done it.
            0 => "forgotten already".to_owned(),
            count => format!("{count} forgotten; rows removed: {rows}"),
        };
        let tables = removed.iter().map(|removed| (removed.table.clone(), removed.rows.into()));
        let result = json!({
            "forgotten": records.len(),
            "removed": tables.collect::<Map<String, serde_json::Value>>(),
        });
        let (verdict, result) = (Verdict::Complete, Some(result));
        Ok(Findings { verdict, differs: false, line, result })
    }

    /// Leaves what has been forgotten out of a list, and gives it.
    pub(super) fn leave_out_forgotten<T>(
        &self,
        listed: &mut Vec<T>,
        id: impl Fn(&T) -> RecordId,
    ) -> Vec<T> {
        if !self.store().has_forgotten() {
            return Vec::new();
        }
        listed.extract_if(.., |one| self.store().is_forgotten(self.entity(), id(one))).collect()
    }
}
