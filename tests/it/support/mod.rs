//! What every test stands on: a database of its own, a simulated portal, and the real binary.

pub(crate) mod campaign;
pub(crate) mod company;
pub(crate) mod cycles;
pub(crate) mod dice;
pub(crate) mod equal;
pub(crate) mod gate;
pub(crate) mod http;
pub(crate) mod portal;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod products;
pub(crate) mod recipients;
pub(crate) mod steps;
pub(crate) mod tables;
pub(crate) mod terminal;

pub(crate) use self::{
    campaign::long,
    company::Company,
    cycles::cycled,
    dice::Dice,
    equal::{assert_equal, equal_at, equal_but_for, equal_within},
    gate::{Gate, eventually},
    portal::{TestPortal, quiet_port, unlimited},
    postgres::{Database, database},
    process::{Finished, Process, Run},
    terminal::Terminal,
};
