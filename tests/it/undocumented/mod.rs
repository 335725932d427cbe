//! What the vendor's pages leave open, or say in two ways: the simulator has a switch for each,
//! and the program is held against the truth in every position of it.
//!
//! | left open | switch | held by |
//! |---|---|---|
//! | `total` with `start=-1` in classic lists: 0 or absent | `total_absent` | `traps::paging::trap_03_…` |
//! | the same in `crm.item.list` | `item_total_zero` | `items::every_value_…` |
//! | an array for `>id` in `crm.item.list`: refused or cast | `item_cast_arrays` | `items::every_value_…` |
//! | an unreadable date there: refused or IS NULL | `item_null_dates` | `items::every_value_…` |
//! | whether an activity moves `DATE_MODIFY` | `Action::Activity` | `links` |
//! | whether `crm.contact.company.items.set` does | `Action::SetLinks` | `links` |
//! | what the deletion of a company does to its contacts | `unlinking` | `links` |
//! | 401 or 403 for credentials and scopes | `refusal` | `refusals` |
//! | the operating limit: 480 or 420 s, and for how long a method is blocked | `OperatingLimit` | `limits` |
//! | whether time is booked by command or by batch, and told at all | `OperatingLimit` | `governor`, `limits` |
//! | whether a refused request fills the bucket | `BucketLimit` | `traps::limits::trap_42_…` |
//! | `Retry-After` with 503 and 429 | `retry_after` | `limits` |
//! | a `start` behind the end: first page, last page, nothing | `overrun`, `item_overrun` | `paging` |
//! | `crm.status.list`: in pages or whole | `whole_statuses` | `paging` |
//! | where counting ends (a threshold of the plan) | `counts_up_to` | `paging` |
//! | the keys of files | `file_keys` | `files` |
//! | `result_error` with or without keys | `unkeyed_errors` | `traps::answers` |
//! | how answers are written | `plain_utf8` | `traps::records::trap_40_…` |
//! | how REST 3.0 words what the portal refuses | `newer_failures` | `refusals` |
//! | order and extent of the mail address book | `recipient_order`, `recipient_window` | `book` |
//! | the gateway: names, filters, order, totals | `GatewayOptions` | `vibecode` |
//! | whether a spent refresh token still works | `ApplicationEvent::Grace` | `oauth` |

mod book;
mod files;
mod limits;
mod links;
mod paging;
mod refusals;

use b24mirror::{entity::Entity, simulator::Undocumented};

use crate::support::{Database, Finished, Run, TestPortal, equal::item_differences};

/// By what contacts and leads are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Classic,
    Item,
}

impl Source {
    const BOTH: [Self; 2] = [Self::Classic, Self::Item];

    fn settings(self, portal: &TestPortal, database: &Database) -> String {
        let source = match self {
            Self::Classic => "classic",
            Self::Item => "item",
        };
        let more = format!(
            "[portal.limits]\nrequests_per_second = 1000\nburst = 10000\n\
             [entities]\ncontacts.source = \"{source}\"\nleads.source = \"{source}\"\n"
        );
        portal.settings_with(database, &more)
    }

    async fn run(self, portal: &TestPortal, database: &Database, arguments: &[&str]) -> Finished {
        Run::b24mirror(arguments).config(&self.settings(portal, database)).finish().await
    }

    /// A command that has to succeed.
    async fn done(self, portal: &TestPortal, database: &Database, arguments: &[&str]) -> Finished {
        let finished = self.run(portal, database, arguments).await;
        assert_eq!(finished.code, Some(0), "{self:?} {arguments:?}: {finished:#?}");
        finished
    }

    /// The first differences in words; empty if there are none.
    async fn differences(self, portal: &TestPortal, database: &Database) -> String {
        let mut found = String::new();
        for entity in Entity::BY_DEFAULT {
            let differences = match self {
                Self::Classic => {
                    crate::support::equal::differences(portal, database.pool(), entity).await
                }
                Self::Item => item_differences(portal, database.pool(), entity).await,
            };
            found.push_str(&differences);
        }
        found
    }

    async fn assert_equal(self, portal: &TestPortal, database: &Database, position: &Undocumented) {
        let differences = self.differences(portal, database).await;
        assert!(differences.is_empty(), "{self:?}, {position:?}:\n{differences}");
    }
}
