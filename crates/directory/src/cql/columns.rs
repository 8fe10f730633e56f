//! A row by the names of its columns.
//!
//! The answer to a conditional write carries `[applied]` and then columns of the row met: which ones,
//! and in which order, is the store's choice.

use crate::DirectoryError;
use scylla::response::query_result::QueryRowsResult;
use scylla::value::{CqlValue, Row};
use std::sync::Arc;

pub(super) struct Columns {
    /// What the row is, for errors.
    what: &'static str,
    names: Arc<[String]>,
    values: Vec<Option<CqlValue>>,
}

impl Columns {
    /// All rows of an answer.
    pub(super) fn of(what: &'static str, answer: &QueryRowsResult) -> Result<Vec<Self>, DirectoryError> {
        let corrupt = |cause: String| DirectoryError::corrupt(what, cause);
        let names: Arc<[String]> = answer.column_specs().iter().map(|column| column.name().to_owned()).collect();
        let rows = answer.rows::<Row>().map_err(|e| corrupt(e.to_string()))?;
        rows.map(|row| {
            let values = row.map_err(|e| corrupt(e.to_string()))?.columns;
            Ok(Self { what, names: names.clone(), values })
        })
        .collect()
    }

    /// Whether all of these are there, and none is null.
    pub(super) fn have(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.place(name).is_some_and(|n| self.values[n].is_some()))
    }

    /// `[applied]` of a conditional write's answer.
    pub(super) fn applied(&mut self) -> Result<bool, DirectoryError> {
        self.take("[applied]")?.as_boolean().ok_or_else(|| self.odd("[applied]"))
    }

    pub(super) fn text(&mut self, name: &str) -> Result<String, DirectoryError> {
        self.take(name)?.into_string().ok_or_else(|| self.odd(name))
    }

    pub(super) fn bigint(&mut self, name: &str) -> Result<i64, DirectoryError> {
        self.take(name)?.as_bigint().ok_or_else(|| self.odd(name))
    }

    pub(super) fn blob(&mut self, name: &str) -> Result<Vec<u8>, DirectoryError> {
        self.take(name)?.into_blob().ok_or_else(|| self.odd(name))
    }

    pub(super) fn digest(&mut self, name: &str) -> Result<[u8; 32], DirectoryError> {
        self.blob(name)?.try_into().map_err(|_| self.odd(name))
    }

    /// An empty list is stored as such, not as a null: the column is frozen.
    pub(super) fn texts(&mut self, name: &str) -> Result<Vec<String>, DirectoryError> {
        let CqlValue::List(texts) = self.take(name)? else { return Err(self.odd(name)) };
        let texts: Option<Vec<String>> = texts.into_iter().map(CqlValue::into_string).collect();
        texts.ok_or_else(|| self.odd(name))
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|column| column == name)
    }

    fn take(&mut self, name: &str) -> Result<CqlValue, DirectoryError> {
        let value = self.place(name).and_then(|n| self.values[n].take());
        value.ok_or_else(|| DirectoryError::corrupt(self.what, format!("it has no {name}")))
    }

    fn odd(&self, name: &str) -> DirectoryError {
        DirectoryError::corrupt(self.what, format!("its {name} is not what it should be"))
    }
}
