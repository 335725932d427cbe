//! A program at a terminal: what a person sees there, and what the person types.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    thread,
    time::Duration,
};

use nix::pty::{Winsize, openpty};
use tempfile::TempDir;
use tokio::{
    process::Child,
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

use super::Run;

/// Longer than anything in these tests takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(4);

/// What Ctrl-C types; the terminal makes a signal of it.
pub(crate) const CTRL_C: &str = "\u{3}";

/// A program that runs at a terminal of its own; killed when dropped.
pub(crate) struct Terminal {
    child: Child,
    keyboard: File,
    screen: watch::Receiver<String>,
    _home: TempDir,
}

impl Terminal {
    /// Starts the binary of this package with these settings.
    pub(crate) fn b24mirror(arguments: &[&str], settings: &str) -> Self {
        let size = Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        // Makes it the controlling terminal, from which signals come.
        let mut all = vec!["--ctty", env!("CARGO_BIN_EXE_b24mirror")];
        all.extend(arguments);
        let (child, home) = Run::program("setsid", &all).config(settings).spawn_on(pty.slave);
        let keyboard = File::from(pty.master);
        let mut output = keyboard.try_clone().unwrap();
        let (sender, screen) = watch::channel(String::new());
        thread::spawn(move || {
            let mut bytes = [0; 4_096];
            // The terminal fails when its last program has left it.
            while let Ok(length) = output.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
                sender.send_modify(|screen| screen.push_str(&text));
            }
        });
        Self { child, keyboard, screen, _home: home }
    }

    /// Waits until something is shown that was not shown before a certain place; returns
    /// the place behind it.
    pub(crate) async fn shows_after(&mut self, place: usize, text: &str) -> usize {
        let find = |screen: &String| screen[place..].find(text).map(|at| place + at + text.len());
        let waiting = self.screen.wait_for(|screen| find(screen).is_some());
        let found = match timeout_at(Instant::now() + PATIENCE, waiting).await {
            Ok(Ok(screen)) => find(&screen),
            _ => None,
        };
        found.unwrap_or_else(|| panic!("no {text:?} on\n{}", self.text()))
    }

    /// Waits until something has been shown; returns the place behind it.
    pub(crate) async fn shows(&mut self, text: &str) -> usize {
        self.shows_after(0, text).await
    }

    /// Types.
    pub(crate) fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Everything that was shown so far, control sequences included.
    pub(crate) fn text(&self) -> String {
        self.screen.borrow().clone()
    }

    /// Waits for its end; returns the exit code and everything that was shown.
    pub(crate) async fn finish(mut self) -> (Option<i32>, String) {
        let Ok(status) = timeout(PATIENCE, self.child.wait()).await else {
            panic!("still running; on the screen:\n{}", self.text());
        };
        // The last words are still on their way to the screen.
        while timeout(Duration::from_millis(200), self.screen.changed())
            .await
            .is_ok_and(|r| r.is_ok())
        {}
        (status.unwrap().code(), self.text())
    }
}
