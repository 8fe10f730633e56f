//! The text of a file of trusted keys, changed line by line: what somebody has written beside a key stays.

use crate::trust::{Trust, TrustError, TrustedKey};

/// `text` with `key` trusted: in the place of the line of its name, if there is one.
pub fn trusted(text: &str, key: &TrustedKey) -> Result<String, TrustError> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let of_name = |line: &String| matches!(TrustedKey::parse(line), Ok(Some(held)) if held.name == key.name);
    match lines.iter().position(of_name) {
        Some(n) => lines[n] = key.to_string(),
        None => lines.push(key.to_string()),
    }
    whole(&lines)
}

/// `text` without the key of this name or id, and that key.
pub fn untrusted(text: &str, which: &str) -> Result<(String, TrustedKey), TrustError> {
    let held = Trust::parse(text)?;
    let is_meant = |key: &&TrustedKey| key.name.as_str() == which || key.key.id().to_string() == which;
    let gone = held.keys().iter().find(is_meant).ok_or_else(|| TrustError::NotThere { what: which.to_owned() })?;
    let stays = |line: &&str| !matches!(TrustedKey::parse(line), Ok(Some(key)) if key == *gone);
    let lines: Vec<String> = text.lines().filter(stays).map(str::to_owned).collect();
    Ok((whole(&lines)?, gone.clone()))
}

/// What cannot be read back is not written.
fn whole(lines: &[String]) -> Result<String, TrustError> {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    Trust::parse(&text).map(|_| text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing_key::SigningKey;
    use cellar_model::KeyName;

    #[test]
    fn a_key_comes_is_widened_and_goes_and_comments_stay() {
        let key = |name: &str, for_what: &str| {
            let public = SigningKey::generate(&mut rand::rng()).public();
            TrustedKey::new(KeyName::new(name).unwrap(), public, vec![for_what.parse().unwrap()]).unwrap()
        };
        let (acme, bob) = (key("acme", "acme-*"), key("bob", "*"));
        let text = trusted("# from their site, 1 May\n", &acme).unwrap();
        let text = trusted(&text, &bob).unwrap();
        assert_eq!(text, format!("# from their site, 1 May\n{acme}\n{bob}\n"));
        let wider = TrustedKey { policies: vec!["*".parse().unwrap()], ..acme.clone() };
        let text = trusted(&text, &wider).unwrap();
        assert_eq!(text, format!("# from their site, 1 May\n{wider}\n{bob}\n"));
        // The same key under another name would be two answers to one question.
        let double = TrustedKey { name: KeyName::new("carol").unwrap(), ..bob.clone() };
        assert!(trusted(&text, &double).is_err());
        let (text, gone) = untrusted(&text, &bob.key.id().to_string()).unwrap();
        assert_eq!((text.as_str(), &gone), (format!("# from their site, 1 May\n{wider}\n").as_str(), &bob));
        let (text, _) = untrusted(&text, "acme").unwrap();
        assert_eq!(text, "# from their site, 1 May\n");
        assert_eq!(untrusted(&text, "acme").unwrap_err(), TrustError::NotThere { what: "acme".into() });
    }
}
