//! Which portal this schema belongs to.

use super::{Generation, Store, StoreError};

/// The portal that the settings mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortalIdentity<'a> {
    /// Its host, as the settings name it.
    pub host: &'a str,
    /// Its own identity, where an application has told it; no renaming changes that.
    pub member_id: Option<&'a str>,
}

impl<'a> PortalIdentity<'a> {
    /// A portal of which no more than the host is known, as by a webhook.
    #[must_use]
    pub const fn host(host: &'a str) -> Self {
        Self { host, member_id: None }
    }
}

/// What the schema knows about the portal that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortalClaim {
    /// The schema was free and now belongs to this portal.
    First,
    /// The same portal and the same user as before.
    Same,
    /// The same portal, but the credentials of another user, who may see other records.
    /// The stored user stays until [`Store::accept_user`], so that a crash before the
    /// full pass is under way does not forget it.
    OtherUser {
        /// The user whose credentials have filled the schema.
        before: i64,
    },
}

/// The portal that a schema belongs to.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct PortalRow {
    /// Where it was last seen to answer.
    pub host: String,
    /// Its own identity, if an application has told it.
    pub member_id: Option<String>,
    /// Hosts that it had before.
    pub former_hosts: Vec<String>,
    user_id: i64,
}

impl PortalRow {
    /// Whether the settings mean this portal. Its own identity decides where both sides
    /// know it: a host that one portal gives up may be another's one day.
    fn is(&self, asking: &PortalIdentity<'_>) -> bool {
        match (&self.member_id, asking.member_id) {
            (Some(own), Some(theirs)) => own == theirs,
            _ => self.knows(asking.host),
        }
    }

    pub(super) fn knows(&self, host: &str) -> bool {
        let host = normal(host);
        self.host == host || self.former_hosts.contains(&host)
    }

    /// Where the portal is now, if the settings name a host that it had before.
    #[must_use]
    pub fn moved_from(&self, host: &str) -> Option<&str> {
        let host = normal(host);
        (self.host != host && self.former_hosts.contains(&host)).then_some(&*self.host)
    }
}

impl Store {
    /// Claims the schema for a portal. A portal that is known by its own identity may come with
    /// a new host; that is recorded once the portal has answered there.
    ///
    /// # Errors
    /// [`StoreError::OtherPortal`] when it belongs to another; nothing is written then.
    pub async fn claim_portal(
        &self,
        asking: &PortalIdentity<'_>,
        user_id: Option<i64>,
    ) -> Result<PortalClaim, StoreError> {
        let host = normal(asking.host);
        let claimed = sqlx::query(
            "insert into portal (host, user_id, member_id) values ($1, $2, $3) \
             on conflict do nothing",
        )
        .bind(&host)
        .bind(user_id.unwrap_or(NOBODY))
        .bind(asking.member_id)
        .execute(&self.pool)
        .await?;
        if claimed.rows_affected() > 0 {
            return Ok(PortalClaim::First);
        }
        self.refuse_other_portal(asking).await?;
        let Some(row) = self.portal_row().await? else { return Ok(PortalClaim::First) };
        if row.member_id.is_none() && asking.member_id.is_some() {
            sqlx::query("update portal set member_id = $1")
                .bind(asking.member_id)
                .execute(&self.pool)
                .await?;
        }
        Ok(match user_id {
            Some(user) if row.user_id == NOBODY => {
                self.accept_user(user).await?;
                PortalClaim::Same
            }
            Some(user) if row.user_id != user => PortalClaim::OtherUser { before: row.user_id },
            _ => PortalClaim::Same,
        })
    }

    /// Reads whether the schema may belong to a portal; claims nothing.
    ///
    /// # Errors
    /// [`StoreError::OtherPortal`] when it belongs to another.
    pub async fn refuse_other_portal(&self, asking: &PortalIdentity<'_>) -> Result<(), StoreError> {
        match self.portal_row().await? {
            Some(row) if !row.is(asking) => {
                Err(StoreError::OtherPortal { here: row.host, theirs: normal(asking.host) })
            }
            _ => Ok(()),
        }
    }

    /// Records the host at which the portal answers since it was renamed.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease has been taken over.
    pub async fn record_rename(
        &self,
        generation: Generation,
        host: &str,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin_leased(generation).await?;
        sqlx::query(RENAMED).bind(normal(host)).execute(&mut *transaction).await?;
        Ok(transaction.commit().await?)
    }

    /// Records that the mirror is read with this user's rights from now on; to be
    /// called when the full pass that another user needs has been stored.
    pub async fn accept_user(&self, user_id: i64) -> Result<(), StoreError> {
        sqlx::query("update portal set user_id = $1").bind(user_id).execute(&self.pool).await?;
        Ok(())
    }

    /// The host of the portal that the schema belongs to, if any.
    pub async fn portal_host(&self) -> Result<Option<String>, StoreError> {
        Ok(self.portal_row().await?.map(|row| row.host))
    }

    /// The portal that the schema belongs to, if any.
    pub async fn portal_row(&self) -> Result<Option<PortalRow>, StoreError> {
        Ok(portal_row(&self.pool).await?)
    }
}

/// The portal that the schema belongs to, if any.
pub(super) async fn portal_row(
    executor: impl sqlx::PgExecutor<'_>,
) -> Result<Option<PortalRow>, sqlx::Error> {
    sqlx::query_as("select host, member_id, former_hosts, user_id from portal")
        .fetch_optional(executor)
        .await
}

/// Stands for a user whom the authorization server did not name.
const NOBODY: i64 = 0;

const RENAMED: &str = "update portal set host = $1, \
        former_hosts = array_append(array_remove(former_hosts, $1), host) \
     where host <> $1";

/// A host name as it is stored and compared.
fn normal(host: &str) -> String {
    host.trim_end_matches('.').to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(member_id: Option<&str>) -> PortalRow {
        PortalRow {
            host: "new.bitrix24.com".to_owned(),
            member_id: member_id.map(str::to_owned),
            former_hosts: vec!["old.bitrix24.com".to_owned()],
            user_id: 1,
        }
    }

    #[test]
    fn a_portal_is_known_by_its_identity_and_else_by_any_of_its_hosts() {
        let asking = |host, member_id| PortalIdentity { host, member_id };
        for member_id in [None, Some("a")] {
            for host in ["new.bitrix24.com", "Old.bitrix24.com."] {
                assert!(row(None).is(&asking(host, member_id)));
                assert!(row(Some("a")).is(&asking(host, member_id)));
            }
            assert!(!row(None).is(&asking("other.bitrix24.com", member_id)));
        }
        assert!(row(Some("a")).is(&asking("other.bitrix24.com", Some("a"))));
        assert!(!row(Some("a")).is(&asking("other.bitrix24.com", None)));
        assert!(!row(Some("a")).is(&asking("new.bitrix24.com", Some("b"))));
    }

    #[test]
    fn a_former_host_leads_to_the_present_one() {
        assert_eq!(row(None).moved_from("OLD.bitrix24.com"), Some("new.bitrix24.com"));
        assert_eq!(row(None).moved_from("new.bitrix24.com"), None);
        assert_eq!(row(None).moved_from("other.bitrix24.com"), None);
    }
}
