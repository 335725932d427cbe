//! Faults that tests and people queue.

use serde::{Deserialize, Serialize};

use super::entity::Entity;

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FaultKind {
    /// A JSON error with this status, code and description.
    Status {
        /// HTTP status; 200 gives an error inside a 200.
        status: u16,
        /// The error code; may be empty.
        code: String,
        /// The description.
        #[serde(default)]
        description: String,
    },
    /// An HTML page, as gateways send it.
    Html {
        /// HTTP status.
        status: u16,
    },
    /// The right answer, cut off after so many bytes of its body.
    Cut {
        /// Bytes of the body that arrive.
        bytes: usize,
    },
    /// Status 200 without a body.
    Empty,
    /// The right answer after a while.
    Slow {
        /// Milliseconds before it.
        millis: u64,
    },
    /// The right answer, trickling: spread evenly over a while.
    SlowBody {
        /// Milliseconds from its first to its last byte.
        millis: u64,
    },
    /// No answer at all; the connection stays open.
    Hang,
    /// The connection is reset instead of an answer.
    Reset,
    /// A redirect; a location without a path gets the request's own.
    Redirect {
        /// `http://host:port` or a full address.
        location: String,
        /// HTTP status.
        #[serde(default = "found")]
        status: u16,
    },
    /// Another program behind the same address sends so many requests just before,
    /// which fills the bucket that they share.
    Crowd {
        /// How many.
        requests: u32,
    },
    /// Lists forget their conditions on `DATE_MODIFY` and `ID`.
    IgnoreFilter,
    /// Lists read every date as none: the condition becomes IS NULL.
    MisreadDate,
    /// Lists leave out every so-manieth record by its ID, as if it were not there.
    HideRows {
        /// Every how-manieth; 1 for all.
        every: u64,
    },
    /// Lists leave multi-fields out of their rows although they were named.
    DropMultiFields,
    /// The command fails, inside a batch in `result_error`.
    CommandError {
        /// The status if the command stands alone.
        #[serde(default = "bad_request")]
        status: u16,
        /// The error code.
        code: String,
        /// The description.
        #[serde(default)]
        description: String,
    },
}

fn found() -> u16 {
    302
}

fn bad_request() -> u16 {
    400
}

impl FaultKind {
    /// Whether a single command goes wrong, and not the whole request.
    pub(super) fn concerns_commands(&self) -> bool {
        matches!(
            self,
            Self::IgnoreFilter
                | Self::MisreadDate
                | Self::HideRows { .. }
                | Self::DropMultiFields
                | Self::CommandError { .. }
        )
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Status { .. } => "status",
            Self::Html { .. } => "html",
            Self::Cut { .. } => "cut",
            Self::Empty => "empty",
            Self::Slow { .. } => "slow",
            Self::SlowBody { .. } => "slow_body",
            Self::Hang => "hang",
            Self::Reset => "reset",
            Self::Redirect { .. } => "redirect",
            Self::Crowd { .. } => "crowd",
            Self::IgnoreFilter => "ignore_filter",
            Self::MisreadDate => "misread_date",
            Self::HideRows { .. } => "hide_rows",
            Self::DropMultiFields => "drop_multi_fields",
            Self::CommandError { .. } => "command_error",
        }
    }
}

/// A command's place in its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The first.
    First,
    /// The one in the middle; of two, the second.
    Middle,
    /// The last.
    Last,
    /// Counted from 0.
    #[serde(untagged)]
    At(usize),
}

impl Place {
    /// Whether the command at `place` of so many stands here.
    fn is(self, place: usize, commands: usize) -> bool {
        place
            == match self {
                Self::First => 0,
                Self::Middle => commands / 2,
                Self::Last => commands.saturating_sub(1),
                Self::At(place) => place,
            }
    }
}

/// A queued fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// A method, or `*`. A batch that holds a command of the method matches, too.
    #[serde(default = "any")]
    pub method: String,
    /// Only calls about this family, by their method or their `entityTypeId`.
    #[serde(default)]
    pub entity: Option<Entity>,
    /// Only the command at this place of a batch: `"first"`, `"middle"`, `"last"`, or a
    /// number counted from 0.
    #[serde(default)]
    pub command: Option<Place>,
    /// Matching requests or commands that are let through first.
    #[serde(default)]
    pub skip: u64,
    /// How often it strikes; `None` for ever.
    #[serde(default = "once")]
    pub count: Option<u64>,
    /// What goes wrong.
    #[serde(flatten)]
    pub fault: FaultKind,
}

fn any() -> String {
    "*".to_owned()
}

#[expect(clippy::unnecessary_wraps, reason = "serde wants the field's own type")]
fn once() -> Option<u64> {
    Some(1)
}

impl Fault {
    /// A fault that strikes the next request or command of `method` once.
    #[must_use]
    pub fn once(method: &str, fault: FaultKind) -> Self {
        Self::times(method, 1, fault)
    }

    /// A fault that strikes the next `count` requests or commands of `method`.
    #[must_use]
    pub fn times(method: &str, count: u64, fault: FaultKind) -> Self {
        Self {
            method: method.to_owned(),
            entity: None,
            command: None,
            skip: 0,
            count: Some(count),
            fault,
        }
    }

    /// The same fault for calls about one family only.
    #[must_use]
    pub fn about(self, entity: Entity) -> Self {
        Self { entity: Some(entity), ..self }
    }

    /// The same fault, for ever.
    #[must_use]
    pub fn forever(self) -> Self {
        Self { count: None, ..self }
    }

    /// The same fault for the command at this place of a batch only, counted from 0.
    #[must_use]
    pub fn at_command(self, place: usize) -> Self {
        self.at(Place::At(place))
    }

    /// The same fault for the command at this place of a batch only.
    #[must_use]
    pub fn at(self, place: Place) -> Self {
        Self { command: Some(place), ..self }
    }

    /// The same fault after so many matches have been let through.
    #[must_use]
    pub fn after(self, matches: u64) -> Self {
        Self { skip: matches, ..self }
    }

    fn names(&self, method: &str, entity: Option<Entity>) -> bool {
        (self.method == "*" || self.method.eq_ignore_ascii_case(method))
            && (self.entity.is_none() || self.entity == entity)
    }
}

/// A record that no full page can hold without failing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Poison {
    /// The record's family.
    pub entity: Entity,
    /// The record.
    pub id: i64,
    /// What becomes of the whole request.
    pub fault: FaultKind,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) queue: Vec<Fault>,
    pub(super) poison: Vec<Poison>,
}

impl Faults {
    /// The fault of a whole request, given its method and its commands' methods.
    pub(super) fn strike_request(
        &mut self,
        (method, entity): (&str, Option<Entity>),
        commands: &[(String, Option<Entity>)],
    ) -> Option<FaultKind> {
        self.strike(|fault| {
            !fault.fault.concerns_commands()
                && !matches!(fault.fault, FaultKind::Crowd { .. })
                && (fault.names(method, entity)
                    || commands.iter().enumerate().any(|(place, (command, entity))| {
                        fault.names(command, *entity)
                            && fault.command.is_none_or(|at| at.is(place, commands.len()))
                    }))
        })
    }

    /// The requests of others that come just before this one. The limiter stands in
    /// front of everything and sees the method only, not what a batch holds.
    pub(super) fn crowd(&mut self, method: &str) -> u32 {
        let crowd = |fault: &Fault| {
            matches!(fault.fault, FaultKind::Crowd { .. }) && fault.names(method, None)
        };
        match self.strike(crowd) {
            Some(FaultKind::Crowd { requests }) => requests,
            _ => 0,
        }
    }

    /// The faults of a command at a place of its batch of so many.
    pub(super) fn strike_command(
        &mut self,
        method: &str,
        entity: Option<Entity>,
        place: usize,
        commands: usize,
    ) -> Vec<FaultKind> {
        let mut struck = Vec::new();
        for at in (0..self.queue.len()).rev() {
            let fault = &self.queue[at];
            if fault.fault.concerns_commands()
                && fault.names(method, entity)
                && fault.command.is_none_or(|own| own.is(place, commands))
                && let Some(kind) = self.use_up(at)
            {
                struck.push(kind);
            }
        }
        struck
    }

    fn strike(&mut self, matches: impl Fn(&Fault) -> bool) -> Option<FaultKind> {
        // A fault that still lets requests through does not hide those behind it.
        let found: Vec<usize> =
            (0..self.queue.len()).filter(|at| matches(&self.queue[*at])).collect();
        for at in found {
            if let Some(kind) = self.use_up(at) {
                return Some(kind);
            }
        }
        None
    }

    fn use_up(&mut self, at: usize) -> Option<FaultKind> {
        let fault = &mut self.queue[at];
        if fault.skip > 0 {
            fault.skip -= 1;
            return None;
        }
        let kind = fault.fault.clone();
        if let Some(count) = &mut fault.count {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.queue.remove(at);
            }
        }
        Some(kind)
    }

    /// The poison of a record.
    pub(super) fn poison(&self, entity: Entity, id: i64) -> Option<&FaultKind> {
        self.poison
            .iter()
            .find(|poison| poison.entity == entity && poison.id == id)
            .map(|poison| &poison.fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_strikes_as_often_as_it_says_after_what_it_lets_through() {
        let mut faults = Faults::default();
        faults.queue.push(Fault::times("batch", 2, FaultKind::Empty).after(1));
        let struck: Vec<bool> =
            (0..5).map(|_| faults.strike_request(("batch", None), &[]).is_some()).collect();
        assert_eq!(struck, [false, true, true, false, false]);
    }

    #[test]
    fn a_batch_matches_by_its_commands() {
        let mut faults = Faults::default();
        faults.queue.push(Fault::once("crm.lead.list", FaultKind::Hang).forever());
        let commands = [("crm.contact.list".to_owned(), None)];
        assert!(faults.strike_request(("batch", None), &commands).is_none());
        let commands = [("crm.lead.list".to_owned(), None)];
        assert!(faults.strike_request(("batch", None), &commands).is_some());
    }

    #[test]
    fn a_command_fault_waits_for_its_place() {
        let mut faults = Faults::default();
        faults.queue.push(Fault::once("crm.contact.list", FaultKind::MisreadDate).at_command(2));
        assert!(faults.strike_command("crm.contact.list", None, 1, 5).is_empty());
        assert_eq!(faults.strike_command("crm.contact.list", None, 2, 5).len(), 1);
        assert!(faults.strike_command("crm.contact.list", None, 2, 5).is_empty());
    }

    #[test]
    fn places_have_names_whatever_the_length_of_the_batch() {
        let struck = |place, commands| {
            let mut faults = Faults::default();
            faults.queue.push(Fault::once("*", FaultKind::MisreadDate).forever().at(place));
            let mut strikes =
                |at: &usize| !faults.strike_command("server.time", None, *at, commands).is_empty();
            (0..commands).filter(|at| strikes(at)).collect::<Vec<_>>()
        };
        assert_eq!(
            [Place::First, Place::Middle, Place::Last].map(|p| struck(p, 5)),
            [[0], [2], [4]]
        );
        assert_eq!(
            [Place::First, Place::Middle, Place::Last].map(|p| struck(p, 1)),
            [[0], [0], [0]]
        );
        let read = |json| serde_json::from_str::<Fault>(json).unwrap().command;
        assert_eq!(read(r#"{"kind":"misread_date","command":"last"}"#), Some(Place::Last));
        assert_eq!(read(r#"{"kind":"misread_date","command":7}"#), Some(Place::At(7)));
    }

    #[test]
    fn a_crowd_comes_before_a_request_and_is_no_answer_to_it() {
        let mut faults = Faults::default();
        faults.queue.push(Fault::once("batch", FaultKind::Crowd { requests: 7 }));
        assert_eq!(faults.strike_request(("batch", None), &[]), None);
        assert_eq!((faults.crowd("server.time"), faults.crowd("batch")), (0, 7));
        assert_eq!(faults.crowd("batch"), 0);
    }

    #[test]
    fn faults_read_from_json() {
        let fault: Fault =
            serde_json::from_str(r#"{"method":"batch","kind":"html","status":502}"#).unwrap();
        assert_eq!(fault, Fault::once("batch", FaultKind::Html { status: 502 }));
        let fault: Fault = serde_json::from_str(r#"{"kind":"hang","count":null}"#).unwrap();
        assert_eq!(fault, Fault::once("*", FaultKind::Hang).forever());
    }
}
