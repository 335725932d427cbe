//! What has to be read before cycles alone keep the mirror equal: the first fill, and
//! full passes when records are mapped differently or a person asks for one.

use super::{SyncError, cycle::Clocks, mirror::Mirror};
use crate::{
    entity::RecordId,
    portal::{Lane, PAGE_ROWS},
    store::{Checkpoint, Fill, SegmentKind, Successor},
};

impl Mirror {
    /// Makes sure that a checkpoint exists and that every record which needs reading
    /// lies in an open segment: on an empty schema, after a change of how records are
    /// mapped, and when `restart` asks for it.
    ///
    /// The watermark is stored first, so that incremental cycles miss nothing from here
    /// on; the mark is the lowest ID of the newest page and its highest is the
    /// successor, since records below may still be on their way into the lists.
    ///
    /// # Errors
    /// [`SyncError`]; nothing is stored then.
    pub(super) async fn prepare(&self, lane: Lane, restart: bool) -> Result<(), SyncError> {
        let entity = self.entity();
        let stored = self.checkpoint().await?;
        let fingerprint = self.fingerprint();
        match stored {
            Some(checkpoint) if checkpoint.fingerprint == fingerprint && !restart => Ok(()),
            Some(checkpoint) => {
                if checkpoint.fingerprint != fingerprint {
                    tracing::info!(
                        entity = entity.name,
                        "records are mapped differently now; every record is read again"
                    );
                }
                let checkpoint = Checkpoint { fingerprint, ..checkpoint };
                let kind = if restart { SegmentKind::Backfill } else { SegmentKind::FullPass };
                self.refill(kind, &checkpoint).await
            }
            None => self.first_backfill(lane, fingerprint).await,
        }
    }

    /// Opens one segment over everything that the mirror knows of, in place of older ones.
    pub(super) async fn refill(
        &self,
        kind: SegmentKind,
        checkpoint: &Checkpoint,
    ) -> Result<(), SyncError> {
        let live = self.store().live(self.entity(), self.sight()).await?;
        let expected = (live > 0).then_some(live);
        let fill = Fill { kind, up_to: checkpoint.newest, expected };
        self.store().start_backfill(self.generation(), self.entity(), checkpoint, fill).await?;
        Ok(())
    }

    async fn first_backfill(&self, lane: Lane, fingerprint: i64) -> Result<(), SyncError> {
        let entity = self.entity();
        let asked_at = self.now().await?;
        let (ids, time) = self.newest(lane).await?;
        let heard_at = self.now().await?;
        let time = time.ok_or(SyncError::NoPortalClock { entity: entity.name })?;
        let clocks =
            Clocks { portal: time.clock, offset_seconds: time.offset_seconds, asked_at, heard_at };
        let newest = ids.iter().max().copied().unwrap_or(RecordId::ZERO);
        let lowest = ids.iter().min().copied().unwrap_or(RecordId::ZERO);
        let mark = if ids.len() < PAGE_ROWS { RecordId::ZERO } else { lowest };
        let checkpoint = Checkpoint {
            fingerprint,
            mark,
            successor: (newest > mark).then_some(Successor { id: newest, at: heard_at }),
            newest,
            deep: clocks.watermark(),
            deep_fitted: true,
            last: clocks.watermark(),
            shift: None,
            cycle: None,
            asked_at,
            completed_at: None,
        };
        self.refill(SegmentKind::Backfill, &checkpoint).await?;
        self.keep_catalogue(Some(&self.reader().catalogue())).await
    }
}
