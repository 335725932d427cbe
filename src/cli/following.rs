//! Watching work that another process does, and what Ctrl-C means meanwhile.
//!
//! On a terminal Ctrl-C asks; a second one leaves the work running, like SIGTERM and like
//! every signal where nobody can be asked.

use std::{
    io::{self, IsTerminal as _},
    ops::ControlFlow,
};

use super::{
    Exit,
    one_shot::{Printing, Report},
    output::{prompt, say},
    progress::Drawing,
    question::{Answer, Question},
};
use crate::{
    lifecycle::{Interrupts, Lifecycle},
    sync::{
        SyncError,
        requests::{HandedOver, Standing},
    },
};

/// A request that is being watched.
pub(super) struct Following<'a> {
    handed: &'a mut HandedOver,
    lifecycle: &'a Lifecycle,
    /// Who does the work, for people.
    holder: String,
    report: Report<'a>,
    drawing: Drawing,
    /// Only where somebody can answer.
    interrupts: Option<Interrupts>,
    question: Option<Question>,
    cancelling: bool,
}

/// What has happened, whichever came first.
enum Event {
    Stop,
    Interrupt,
    Answer(Answer),
    Standing(Result<Standing, SyncError>),
}

impl<'a> Following<'a> {
    /// Begins to watch, and says who does the work. `holder` is as the lease has it: host,
    /// process, command.
    pub(super) fn begin(
        handed: &'a mut HandedOver,
        lifecycle: &'a Lifecycle,
        holder: &str,
        report: Report<'a>,
    ) -> Self {
        let holder = in_words(holder);
        let somebody = io::stdin().is_terminal() && io::stderr().is_terminal();
        let interrupts = somebody.then(|| lifecycle.interrupts());
        let request = handed.number();
        let drawing = Drawing::elsewhere(request);
        let (question, cancelling) = (None, false);
        let following =
            Self { handed, lifecycle, holder, report, drawing, interrupts, question, cancelling };
        following.tell(&format!(
            "{} is mirroring this portal; the work was handed over as request {request}",
            following.holder
        ));
        following
    }

    /// Says how it goes on. Whoever wants JSON gets nothing else on standard output.
    fn tell(&self, text: &str) {
        match self.report.printing {
            Printing::Lines => say!("{text}"),
            Printing::Json => tracing::info!("{text}"),
        }
    }

    /// Watches to the end; `None` when the holder died over it and the work is ours.
    pub(super) async fn watch(mut self) -> Result<Option<Exit>, SyncError> {
        let request = self.handed.number();
        let exit = loop {
            match self.next().await {
                // Asked once already, or told by a signal that does not ask.
                Event::Interrupt if self.question.is_none() && !self.cancelling => {
                    self.drawing.clear();
                    self.question = Some(Question::ask(request));
                }
                Event::Stop | Event::Interrupt | Event::Answer(Answer::Leave) => {
                    break Some(self.leave());
                }
                Event::Answer(Answer::Watch) => self.question = None,
                Event::Answer(Answer::Cancel) => {
                    self.question = None;
                    self.cancelling = true;
                    self.tell(&format!("cancelling request {request}"));
                    if self.cancel().await?.is_none() {
                        break Some(self.leave());
                    }
                }
                Event::Standing(standing) => {
                    if let ControlFlow::Break(ended) = self.show(standing?) {
                        break ended;
                    }
                }
            }
        };
        self.drawing.finish().await;
        Ok(exit)
    }

    async fn next(&mut self) -> Event {
        let stop = self.lifecycle.soft();
        let interrupt = async {
            match &mut self.interrupts {
                Some(interrupts) => interrupts.next().await,
                None => std::future::pending().await,
            }
        };
        let answer = async {
            match &mut self.question {
                Some(question) => question.answered().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => Event::Stop,
            () = interrupt => Event::Interrupt,
            answer = answer => Event::Answer(answer),
            standing = self.handed.next() => Event::Standing(standing),
        }
    }

    /// Takes the request back; `None` when somebody would not wait for that either.
    async fn cancel(&mut self) -> Result<Option<()>, SyncError> {
        let stop = self.lifecycle.soft();
        let interrupt = async {
            match &mut self.interrupts {
                Some(interrupts) => interrupts.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            cancelled = self.handed.cancel() => cancelled.map(Some),
            () = interrupt => Ok(None),
            () = stop.cancelled() => Ok(None),
        }
    }

    /// Draws how it stands, and breaks once it has ended or has become ours.
    fn show(&mut self, standing: Standing) -> ControlFlow<Option<Exit>> {
        let request = self.handed.number();
        match standing {
            Standing::Queued | Standing::UnderWay(_) if self.question.is_some() => {}
            Standing::Queued => {
                self.drawing.draw(&[], &format!("request {request} waits to be taken up"));
            }
            Standing::UnderWay(progress) => {
                let doing = if self.cancelling { "is being cancelled" } else { "is under way" };
                self.drawing.draw(&progress, &format!("request {request} {doing}"));
            }
            Standing::Finished(end) => {
                self.close_question();
                return ControlFlow::Break(Some(self.report.tell(&end)));
            }
            Standing::HolderGone if self.cancelling => {
                self.close_question();
                self.tell(&format!(
                    "{} is gone; nobody works on request {request} any more",
                    self.holder
                ));
                return ControlFlow::Break(Some(self.report.unfinished()));
            }
            Standing::HolderGone => {
                self.close_question();
                tracing::warn!("the process that held the lease is gone; taking over");
                return ControlFlow::Break(None);
            }
        }
        ControlFlow::Continue(())
    }

    fn leave(&mut self) -> Exit {
        self.close_question();
        let (request, holder) = (self.handed.number(), &self.holder);
        if self.cancelling {
            self.tell(&format!(
                "request {request} has been taken back; {holder} will stop working on it"
            ));
        } else {
            self.tell(&format!(
                "not finished: request {request} goes on in {holder}; `b24mirror status` shows \
                 how it stands"
            ));
        }
        self.report.unfinished()
    }

    /// What follows does not stand on the line of an open question.
    fn close_question(&mut self) {
        self.drawing.clear();
        if self.question.take().is_some() {
            prompt("\n");
        }
    }
}

/// The holder as a sentence names it.
fn in_words(holder: &str) -> String {
    match holder.rsplit_once(", ") {
        Some((process, command)) => format!("host {process} ({command})"),
        None => holder.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_named_as_host_process_and_command() {
        assert_eq!(in_words("web-1, process 4711, run"), "host web-1, process 4711 (run)");
        assert_eq!(in_words("another process"), "another process");
    }
}
