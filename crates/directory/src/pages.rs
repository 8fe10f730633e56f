//! Pages of the directory's rows as operators read them.

use crate::{ClaimCursor, ClaimState, Claims, DirectoryError, HomeCursor, HomeState, Homes, PAGE_MAX, UserHome};
use cellar_model::wire::{ClaimsPage, DirectoryClaim, DirectoryHome, HomesPage};

/// The homes from `after` on: what the page before said, or none for the first.
pub async fn homes(directory: &impl Homes, after: Option<String>) -> Result<HomesPage, DirectoryError> {
    let page = directory.homes(after.map(HomeCursor).as_ref(), PAGE_MAX).await?;
    Ok(HomesPage { homes: page.homes.into_iter().map(home).collect(), next: page.next.map(|cursor| cursor.0) })
}

pub fn home(row: UserHome) -> DirectoryHome {
    let state = match row.state {
        HomeState::Creating { .. } => "creating",
        HomeState::Active => "active",
        HomeState::Moving { .. } => "moving",
        HomeState::Erased => "erased",
    };
    DirectoryHome { user_id: row.user, cell: row.home, epoch: row.epoch, state: state.to_owned() }
}

/// The claims from `after` on.
pub async fn claims(directory: &impl Claims, after: Option<String>) -> Result<ClaimsPage, DirectoryError> {
    let page = directory.claims(after.map(ClaimCursor).as_ref(), PAGE_MAX).await?;
    let claims = page.claims.into_iter().map(|claim| DirectoryClaim {
        email: claim.email.to_text(),
        user_id: claim.user,
        cell: claim.cell,
        intent: claim.intent.into(),
        state: match claim.state {
            ClaimState::Creating => "creating",
            ClaimState::Held => "held",
            ClaimState::Releasing => "releasing",
        }
        .to_owned(),
    });
    Ok(ClaimsPage { claims: claims.collect(), next: page.next.map(|cursor| cursor.0) })
}
