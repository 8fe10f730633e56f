//! Password hashes that users were brought with from elsewhere, taken as they are: argon2 and scrypt in PHC form,
//! bcrypt in its own. The first log-in with the right password replaces one by ours.
//!
//! What a hash costs to check is in the hash, and so is bounded before it is stored: a check holds a core and its
//! memory while others wait.

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordVerifier};
use scrypt::Scrypt;

/// The longest of these forms has some 150 bytes.
const BYTES_MAX: usize = 256;
/// 64 MiB at three passes is the costlier of the two usual recommendations for argon2.
const ARGON2_KIB_MAX: u64 = 64 * 1024;
const ARGON2_KIB_PASSES_MAX: u64 = 256 * 1024;
const ARGON2_LANES_MAX: u64 = 8;
/// Some 0.5 s.
const BCRYPT_COST_MAX: u32 = 13;
/// 128 MiB, the usual recommendation for scrypt: blocks of 128 bytes, `r` of them, 2^`ln` times.
const SCRYPT_BLOCKS_MAX: u64 = 1 << 20;
/// The same `p` times, one after the other.
const SCRYPT_WORK_MAX: u64 = 1 << 21;

/// Whether it can be taken, or why not. The hash itself is not in the answer.
pub(super) fn check(hash: &str) -> Result<(), &'static str> {
    if hash.len() > BYTES_MAX {
        return Err("a password hash has at most 256 bytes");
    }
    if is_bcrypt(hash) {
        return check_bcrypt(hash);
    }
    const UNKNOWN: &str = "no password hash in the form of argon2, scrypt ($…$, PHC) or bcrypt ($2b$…)";
    let parsed = PasswordHash::new(hash).map_err(|_| UNKNOWN)?;
    if parsed.salt.is_none() || parsed.hash.is_none() {
        return Err("it has no salt, or no hash");
    }
    // Absent ones have defaults that nobody wrote down: refused, since then it cannot be said what it costs.
    let number = |name: &str| parsed.params.get_decimal(name).map(u64::from);
    match parsed.algorithm.as_str() {
        "argon2id" | "argon2i" | "argon2d" => match (number("m"), number("t"), number("p")) {
            (Some(kib), Some(passes), Some(lanes))
                if kib <= ARGON2_KIB_MAX
                    && kib.saturating_mul(passes) <= ARGON2_KIB_PASSES_MAX
                    && lanes <= ARGON2_LANES_MAX
                    && argon2::Params::try_from(&parsed).is_ok() =>
            {
                Ok(())
            }
            _ => Err("argon2 is taken with m up to 65536, m × t up to 262144 and p up to 8"),
        },
        "scrypt" => match (number("ln"), number("r"), number("p")) {
            (Some(ln @ 1..=20), Some(r @ 1..=32), Some(p @ 1..=16))
                if (r << ln) <= SCRYPT_BLOCKS_MAX && (r << ln) * p <= SCRYPT_WORK_MAX =>
            {
                Ok(())
            }
            _ => Err("scrypt is taken with r × 2^ln up to 2^20, and that times p up to 2^21"),
        },
        _ => Err(UNKNOWN),
    }
}

/// Whether it is the password. A form that is none of them is nobody's.
pub(super) fn matches(password: &[u8], hash: &str) -> bool {
    if is_bcrypt(hash) {
        return bcrypt::verify(password, hash).unwrap_or(false);
    }
    let Ok(parsed) = PasswordHash::new(hash) else { return false };
    match parsed.algorithm.as_str() {
        "scrypt" => Scrypt::default().verify_password(password, &parsed).is_ok(),
        // By the parameters of the hash, whatever ours are.
        _ => Argon2::default().verify_password(password, &parsed).is_ok(),
    }
}

fn is_bcrypt(hash: &str) -> bool {
    ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix))
}

/// `$2b$`, two digits, `$`, 22 characters of salt and 31 of hash.
fn check_bcrypt(hash: &str) -> Result<(), &'static str> {
    let cost = hash.get(4..6).and_then(|cost| cost.parse::<u32>().ok());
    let rest = hash.get(6..).unwrap_or_default().strip_prefix('$').unwrap_or_default();
    let in_alphabet = rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/'));
    match cost {
        Some(4..=BCRYPT_COST_MAX) if rest.len() == 53 && in_alphabet => Ok(()),
        Some(_) if rest.len() == 53 && in_alphabet => Err("bcrypt is taken with a cost of 4 to 13"),
        _ => Err("no bcrypt hash"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::{Algorithm, Params, PasswordHasher, Version};

    /// Of "correct horse", by other programs' parameters.
    fn hashes() -> [String; 3] {
        let params = Params::new(8 * 1024, 3, 2, None).unwrap();
        let argon2 = Argon2::new(Algorithm::Argon2i, Version::V0x10, params);
        let argon2: PasswordHash = argon2.hash_password(b"correct horse").unwrap();
        let scrypt = Scrypt::new_with_params(scrypt::Params::new(10, 8, 1).unwrap());
        let scrypt: PasswordHash = scrypt.hash_password(b"correct horse").unwrap();
        [argon2.to_string(), scrypt.to_string(), bcrypt::hash("correct horse", 4).unwrap()]
    }

    #[test]
    fn each_form_is_taken_and_matches_its_password_only() {
        for hash in hashes() {
            assert_eq!(check(&hash), Ok(()), "{hash}");
            assert!(matches(b"correct horse", &hash) && !matches(b"battery staple", &hash), "{hash}");
        }
        // PHP writes 2y.
        assert!(matches(b"correct horse", &hashes()[2].replace("$2b$", "$2y$")));
    }

    #[test]
    fn what_costs_too_much_or_is_no_hash_is_refused() {
        let [argon2, scrypt, bcrypt] = hashes();
        for bad in [
            argon2.replace("m=8192", "m=8388608"),
            argon2.replace("t=3", "t=1000"),
            argon2.replace("p=2", "p=200"),
            argon2.replace("$m=8192,t=3,p=2", ""),
            argon2.rsplit_once('$').unwrap().0.to_owned(),
            scrypt.replace("ln=10", "ln=30"),
            scrypt.replace("ln=10,", ""),
            scrypt.replace("p=1", "p=4000000"),
            bcrypt.replace("$04$", "$31$"),
            bcrypt[..50].to_owned(),
            "$1$abc$def".to_owned(),
            "correct horse".to_owned(),
            String::new(),
            "x".repeat(300),
        ] {
            assert!(check(&bad).is_err(), "{bad}");
        }
    }
}
