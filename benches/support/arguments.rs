//! `cargo bench --bench NAME -- [ROW…] [--scale FACTOR]`

use anyhow::{Context as _, bail};

/// What to measure.
#[derive(Debug)]
pub(crate) struct Arguments {
    /// Parts of rows' names; all rows if empty.
    rows: Vec<String>,
    /// What the numbers of records are multiplied with.
    scale: f64,
}

impl Arguments {
    /// Reads the command line; `None` unless cargo was asked to run benchmarks:
    /// `cargo test --all-targets` starts them, too.
    pub(crate) fn read() -> anyhow::Result<Option<Self>> {
        let mut read = Self { rows: Vec::new(), scale: 1.0 };
        let mut asked = false;
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--bench" => asked = true,
                "--scale" => {
                    let scale = arguments.next().context("--scale needs a factor, like 0.1")?;
                    read.scale = scale.parse().context("the factor of --scale is no number")?;
                }
                other if other.starts_with('-') => {
                    bail!("unknown argument {other}; known: [ROW…] [--scale FACTOR]")
                }
                row => read.rows.push(row.to_owned()),
            }
        }
        if !(0.001..=100.0).contains(&read.scale) {
            bail!("--scale takes a factor from 0.001 to 100");
        }
        Ok(asked.then_some(read))
    }

    /// Whether a row was asked for.
    pub(crate) fn wants(&self, row: &str) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|part| row.contains(part.as_str()))
    }

    /// Whether any of these rows was asked for.
    pub(crate) fn want_any(&self, rows: &[&str]) -> bool {
        rows.iter().any(|row| self.wants(row))
    }

    /// A number of records, scaled.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "numbers of records are positive and far below 2^52"
    )]
    pub(crate) fn scaled(&self, records: u64) -> u64 {
        ((records as f64 * self.scale) as u64).max(100)
    }
}
