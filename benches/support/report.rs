//! Rows of figures: JSON for machines, a Markdown table for the README.

use std::{
    fs,
    io::{self, Write as _},
    process::Command,
};

use chrono::Utc;
use serde_json::{Map, Value, json};

/// One line of a benchmark's table.
#[derive(Debug)]
pub(crate) struct Row {
    name: &'static str,
    what: String,
    figures: Vec<Figure>,
    target: Option<(String, bool)>,
}

#[derive(Debug)]
struct Figure {
    key: &'static str,
    value: f64,
    unit: &'static str,
}

impl Row {
    /// A row without figures yet. The name is what arguments choose it by.
    pub(crate) fn new(name: &'static str, what: impl Into<String>) -> Self {
        Self { name, what: what.into(), figures: Vec::new(), target: None }
    }

    /// What arguments choose it by.
    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    /// Adds a figure; the first one is what the row is about.
    pub(crate) fn figure(mut self, key: &'static str, value: f64, unit: &'static str) -> Self {
        self.figures.push(Figure { key, value, unit });
        self
    }

    /// Says what was to be reached, and whether it was.
    pub(crate) fn target(mut self, text: impl Into<String>, met: bool) -> Self {
        self.target = Some((text.into(), met));
        self
    }

    fn json(&self, bench: &str) -> Value {
        let mut object = Map::new();
        object.insert("bench".to_owned(), bench.into());
        object.insert("row".to_owned(), self.name.into());
        object.insert("what".to_owned(), self.what.clone().into());
        for figure in &self.figures {
            object.insert(figure.key.to_owned(), number(figure.value));
        }
        if let Some((target, met)) = &self.target {
            object.insert("target".to_owned(), target.clone().into());
            object.insert("met".to_owned(), (*met).into());
        }
        // What else the machine was busy with: a wall-clock figure is worth no more than that.
        object.insert("load".to_owned(), load().map_or(Value::Null, number));
        Value::Object(object)
    }

    fn markdown(&self) -> String {
        let figure = |figure: &Figure| format!("{} {}", readable(figure.value), figure.unit);
        let mut figures = self.figures.iter().map(figure);
        let first = figures.next().map(|figure| format!("**{}**", figure.trim_end()));
        let figures: Vec<String> = first.into_iter().chain(figures).collect();
        let (target, met) = match &self.target {
            Some((target, true)) => (target.as_str(), "yes"),
            Some((target, false)) => (target.as_str(), "**no**"),
            None => ("", ""),
        };
        format!("| {} | {} | {target} | {met} |", self.what, figures.join("; "))
    }
}

/// The rows of one benchmark, printed as they come.
#[derive(Debug)]
pub(crate) struct Report {
    bench: &'static str,
    rows: Vec<Row>,
    /// What the machine was busy with before we began.
    load_before: Option<f64>,
}

impl Report {
    /// No rows yet.
    pub(crate) fn new(bench: &'static str) -> Self {
        Self { bench, rows: Vec::new(), load_before: load() }
    }

    /// Prints a row as a line of JSON and keeps it for the table.
    pub(crate) fn add(&mut self, row: Row) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", row.json(self.bench))?;
        out.flush()?;
        self.rows.push(row);
        Ok(())
    }

    /// Prints the table, with the machine and the date.
    pub(crate) fn print_table(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "\n{}{}\n", machine(), self.disturbance())?;
        writeln!(out, "| what | measured | target | met |\n|---|---|---|---|")?;
        for row in &self.rows {
            writeln!(out, "{}", row.markdown())?;
        }
        out.flush()
    }
}

impl Report {
    /// A word about a machine that was not ours alone.
    fn disturbance(&self) -> String {
        match self.load_before {
            Some(load) if load >= 0.5 => format!(
                " Other work was going on beside it (load average {load:.1} before it began), so \
                 every speed is too low."
            ),
            _ => String::new(),
        }
    }
}

/// A count as a figure.
#[expect(clippy::cast_precision_loss, reason = "no count here comes near 2^52")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// Bytes as megabytes of a million bytes.
pub(crate) fn megabytes(bytes: u64) -> f64 {
    float(bytes) / 1e6
}

/// A number with separators of thousands: `200,000`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// As many digits as say something.
fn readable(value: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "figures are positive and small"
    )]
    let whole = value.round() as u64;
    match value {
        _ if value.fract() == 0.0 || value >= 100.0 => thousands(whole),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ if value >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// A figure to six digits: what lies beyond is noise.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return serde_json::from_str(&format!("{value:.0}")).unwrap_or_else(|_| json!(value));
    }
    let text = format!("{value:.5e}");
    text.parse::<f64>().map_or(Value::Null, |value| json!(value))
}

fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// The machine and the date, in a sentence.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).ok()?;
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let model = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown CPU".to_owned());
    let memory = field("/proc/meminfo", "MemTotal")
        .and_then(|text| text.split(' ').next()?.parse::<u64>().ok())
        .map_or(String::new(), |kib| format!(", {} GiB", (kib + (1 << 19)) >> 20));
    let run = |program: &str| {
        let output = Command::new(program).arg("--version").output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let rustc = run("rustc").unwrap_or_else(|| "an unknown rustc".to_owned());
    let date = Utc::now().format("%Y-%m-%d");
    format!("Measured {date} on {cores} cores ({model}{memory}) with {rustc}.")
}
