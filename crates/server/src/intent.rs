//! Which sign-up is the same sign-up.

use cellar_model::KeyName;
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
        assert_eq!(intent(&name("app"), None).len(), intent(&name("app"), Some("k")).len());
    }
}
