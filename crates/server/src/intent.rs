//! Which sign-up is the same sign-up, which enrolment the same one, and which change of an e-mail the same change.

use cellar_model::{KeyName, UserId};
use sha2::{Digest, Sha256};

/// The intent of a sign-up: the same for a repeat under the same key of the same caller, random
/// without a key.
pub fn sign_up_intent(caller: &KeyName, key: Option<&str>) -> String {
    let Some(key) = key else { return hex::encode(rand::random::<[u8; 16]>()) };
    let mut hash = Sha256::new();
    hash.update(caller.as_str());
    // No name has it: ("a", "bc") is not ("ab", "c").
    hash.update([0]);
    hash.update(key);
    hex::encode(&hash.finalize()[..16])
}

/// The intent of a first sight of `user` under a key: the same at every router, so that they all make one user.
pub fn enrolment_intent(caller: &KeyName, user: &UserId) -> String {
    let mut hash = Sha256::new();
    // No caller's name begins so, and no change of an e-mail: it is neither of the others' intent.
    hash.update([1]);
    hash.update(caller.as_str());
    hash.update([0]);
    hash.update(user.as_str());
    hex::encode(&hash.finalize()[..16])
}

/// The intent of a user who is brought from elsewhere: of the e-mail, as it is known under a pepper, and of all else
/// that is said.
pub fn brought_intent(email: &[u8; 32], said: &[u8]) -> String {
    let mut hash = Sha256::new();
    // No caller's name begins so, and neither do the others' intents.
    hash.update([2]);
    hash.update(email);
    hash.update(said);
    hex::encode(&hash.finalize()[..16])
}

/// The intent of a change of `user`'s e-mail: the same for a repeat under the same key, whoever repeats it;
/// random without a key.
pub fn email_change_intent(user: &UserId, key: Option<&str>) -> String {
    let Some(key) = key else { return hex::encode(rand::random::<[u8; 16]>()) };
    let mut hash = Sha256::new();
    // No caller's name is empty: it is no sign-up's intent.
    hash.update([0]);
    hash.update(user.as_str());
    hash.update([0]);
    hash.update(key);
    hex::encode(&hash.finalize()[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_is_of_caller_and_key_and_random_without() {
        let name = |name: &str| KeyName::new(name).unwrap();
        let intent = sign_up_intent;
        assert_eq!(intent(&name("app"), Some("k")), intent(&name("app"), Some("k")));
        assert_ne!(intent(&name("app"), Some("k")), intent(&name("ap"), Some("pk")));
        assert_ne!(intent(&name("app"), None), intent(&name("app"), None));
        let user = |id: &str| UserId::new(id).unwrap();
        assert_eq!(email_change_intent(&user("app"), Some("k")), email_change_intent(&user("app"), Some("k")));
        assert_ne!(email_change_intent(&user("app"), Some("k")), intent(&name("app"), Some("k")));
        assert_ne!(email_change_intent(&user("app"), None), email_change_intent(&user("app"), None));
        assert_eq!(intent(&name("app"), None).len(), intent(&name("app"), Some("k")).len());
        let enrolment = enrolment_intent;
        assert_eq!(enrolment(&name("app"), &user("k")), enrolment(&name("app"), &user("k")));
        assert_ne!(enrolment(&name("app"), &user("k")), enrolment(&name("ap"), &user("pk")));
        assert_ne!(enrolment(&name("app"), &user("k")), intent(&name("app"), Some("k")));
    }
}
