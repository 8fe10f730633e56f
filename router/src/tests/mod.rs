//! The router before stub cells.

mod checks;
mod requests;
pub(crate) mod stub;
