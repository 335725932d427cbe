//! Which portal this schema belongs to.

use super::{Store, StoreError};

/// What the schema knows about the portal that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortalClaim {
    /// The schema was free and now belongs to this portal.
    First,
    /// The same portal and the same user as before.
    Same,
    /// The same portal, but the webhook of another user, who may see other records.
    /// The stored user stays until [`Store::accept_user`], so that a crash before the
    /// full pass is under way does not forget it.
    OtherUser {
        /// The user whose webhook has filled the schema.
        before: i64,
    },
}

impl Store {
    /// Claims the schema for a portal, by its host.
    ///
    /// # Errors
    /// [`StoreError::OtherPortal`] when it belongs to another; nothing is written then.
    pub async fn claim_portal(&self, host: &str, user_id: i64) -> Result<PortalClaim, StoreError> {
        let host = normal(host);
        let claimed = sqlx::query(
            "insert into portal (host, user_id) values ($1, $2) on conflict do nothing",
        )
        .bind(&host)
        .bind(user_id)
        .execute(&self.pool)
        .await?;
        if claimed.rows_affected() > 0 {
            return Ok(PortalClaim::First);
        }
        let (here, before): (String, i64) =
            sqlx::query_as("select host, user_id from portal").fetch_one(&self.pool).await?;
        if here != host {
            return Err(StoreError::OtherPortal { here, theirs: host });
        }
        Ok(if before == user_id { PortalClaim::Same } else { PortalClaim::OtherUser { before } })
    }

    /// Reads whether the schema may belong to a portal; claims nothing.
    ///
    /// # Errors
    /// [`StoreError::OtherPortal`] when it belongs to another.
    pub async fn refuse_other_portal(&self, host: &str) -> Result<(), StoreError> {
        let theirs = normal(host);
        match self.portal_host().await? {
            Some(here) if here != theirs => Err(StoreError::OtherPortal { here, theirs }),
            _ => Ok(()),
        }
    }

    /// Records that the mirror is read with this user's rights from now on; to be
    /// called when the full pass that another user needs has been stored.
    pub async fn accept_user(&self, user_id: i64) -> Result<(), StoreError> {
        sqlx::query("update portal set user_id = $1").bind(user_id).execute(&self.pool).await?;
        Ok(())
    }

    /// The host that the schema belongs to, if any.
    pub async fn portal_host(&self) -> Result<Option<String>, StoreError> {
        Ok(sqlx::query_scalar("select host from portal").fetch_optional(&self.pool).await?)
    }
}

/// A host name as it is stored and compared.
fn normal(host: &str) -> String {
    host.trim_end_matches('.').to_lowercase()
}
