//! The router before stub cells.

mod checks;
mod instances;
mod requests;
pub(crate) mod stub;
