//! What people who query the mirror rely on.

mod phones;
