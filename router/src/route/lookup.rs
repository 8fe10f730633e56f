//! The two questions a router asks the directory about one user.

use cellar_directory::{Claim, Claims, DirectoryError, EmailHash, Homes, OpenDirectory, UserHome};
use cellar_model::UserId;
use futures::future::BoxFuture;

pub(crate) trait Lookup: Send + Sync {
    fn home<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Option<UserHome>, DirectoryError>>;

    fn claim<'a>(&'a self, email: &'a EmailHash) -> BoxFuture<'a, Result<Option<Claim>, DirectoryError>>;
}

/// Stale answers are harmless: the cell decides.
impl Lookup for OpenDirectory {
    fn home<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Option<UserHome>, DirectoryError>> {
        Box::pin(self.read_home(user))
    }

    fn claim<'a>(&'a self, email: &'a EmailHash) -> BoxFuture<'a, Result<Option<Claim>, DirectoryError>> {
        Box::pin(self.read_claim(email))
    }
}
