//! The router before stub cells.

mod checks;
mod enrolments;
mod instances;
mod requests;
mod routes;
pub(crate) mod stub;
