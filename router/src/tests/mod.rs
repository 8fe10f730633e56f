//! The router before stub cells.

pub(crate) mod stub;
