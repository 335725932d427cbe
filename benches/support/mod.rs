//! What both benchmarks need: arguments, rows of figures, a private server, plain HTTP.

pub(crate) mod arguments;
pub(crate) mod contacts;
pub(crate) mod http;
pub(crate) mod report;
pub(crate) mod server;
