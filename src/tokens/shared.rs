//! What do the files of the AWS command line say?
//!
//! `credentials` has sections `[name]`, `config` has `[profile name]` (and `[default]`); the first
//! file with both keys wins. Only keys are taken: a profile that stands for a role, a process or a
//! browser login is not, and is said so.
//!
//! Source: AWS SDKs and Tools Reference Guide, "Using shared config and credentials files".

use crate::base::secret::Secret;
use crate::config::credential::AwsKeys;

/// Finds the keys of a profile in the text of a file.
#[must_use]
pub fn keys_in(text: &str, profile: &str) -> Option<AwsKeys> {
    let mut is_inside = false;
    let (mut id, mut key, mut session) = (None, None, None);
    for line in text.lines() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            let name = name.trim();
            let name = name.strip_prefix("profile ").map_or(name, str::trim);
            is_inside = name == profile;
        } else if is_inside
            && !line.starts_with(['#', ';'])
            && let Some((name, value)) = line.split_once('=')
        {
            let value = value.trim();
            let slot = match name.trim() {
                "aws_access_key_id" => &mut id,
                "aws_secret_access_key" => &mut key,
                "aws_session_token" => &mut session,
                _ => continue,
            };
            let is_sound = !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic());
            *slot = is_sound.then(|| Secret::new(value.to_owned()));
        }
    }
    Some(AwsKeys { access_key_id: id?, secret_access_key: key?, session_token: session })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_the_named_profile_are_found_in_either_file() {
        let text = "# by hand\n[default]\naws_access_key_id = A\naws_secret_access_key=S\n\n\
                    [profile work]\n; note\naws_access_key_id=B\n aws_secret_access_key = T/+=\naws_session_token = U\n\
                    [role]\nrole_arn = x\n[broken]\naws_access_key_id = C\naws_secret_access_key =\n";
        let found = |profile: &str| {
            keys_in(text, profile).map(|keys| {
                let session = keys.session_token.as_ref().map(|token| token.expose().to_owned());
                (keys.access_key_id.expose().to_owned(), keys.secret_access_key.expose().to_owned(), session)
            })
        };
        assert_eq!(found("default"), Some(("A".to_owned(), "S".to_owned(), None)));
        assert_eq!(found("work"), Some(("B".to_owned(), "T/+=".to_owned(), Some("U".to_owned()))));
        for none in ["role", "broken", "nope"] {
            assert_eq!(found(none), None, "{none}");
        }
    }
}
