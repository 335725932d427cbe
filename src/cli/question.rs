//! The question at the terminal what Ctrl-C means for work that another process does.

use std::{io, thread};

use tokio::sync::oneshot;

use super::output::prompt;

/// What becomes of a request that was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It goes on, and nobody watches it.
    Leave,
    /// Nobody wants it any more.
    Cancel,
    /// It goes on, and is watched.
    Watch,
}

impl Answer {
    /// Reads what somebody typed; nothing at all leaves everything as it is.
    fn read(typed: &str) -> Option<Self> {
        match typed.trim().to_lowercase().as_str() {
            "" | "l" | "leave" => Some(Self::Leave),
            "c" | "cancel" => Some(Self::Cancel),
            "w" | "watch" => Some(Self::Watch),
            _ => None,
        }
    }
}

/// A question that has been asked.
pub(super) struct Question(oneshot::Receiver<Answer>);

impl Question {
    /// Asks at the terminal. The reading thread ends with an answer or with the process: a
    /// read from a terminal cannot be given up.
    pub(super) fn ask(request: i64) -> Self {
        let (sender, answer) = oneshot::channel();
        let asking = move || {
            let answer = loop {
                prompt(&format!(
                    "\nLeave request {request} running, cancel it, or go on watching? [l/c/w] "
                ));
                let mut typed = String::new();
                if io::stdin().read_line(&mut typed).is_err() {
                    break Answer::Leave;
                }
                if let Some(answer) = Answer::read(&typed) {
                    break answer;
                }
            };
            // The work may have ended meanwhile.
            let _ = sender.send(answer);
        };
        // Where no thread can be had, nobody is asked, and the request is left alone.
        drop(thread::Builder::new().name("question".to_owned()).spawn(asking));
        Self(answer)
    }

    /// Waits for the answer.
    pub(super) async fn answered(&mut self) -> Answer {
        (&mut self.0).await.unwrap_or(Answer::Leave)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_typed_leaves_it_and_nonsense_is_asked_again() {
        for (typed, answer) in [
            ("\n", Some(Answer::Leave)),
            ("", Some(Answer::Leave)),
            ("L\n", Some(Answer::Leave)),
            (" c \n", Some(Answer::Cancel)),
            ("watch\r\n", Some(Answer::Watch)),
            ("y\n", None),
        ] {
            assert_eq!(Answer::read(typed), answer, "{typed:?}");
        }
    }
}
