//! Where is a refresh token kept that was handed out anew?
//!
//! Many services take a refresh token once: the answer holds the next one, and who loses it must
//! log in again. In memory it survives reloads, in a `store` file (mode 0600, written beside and
//! renamed) restarts too. The file names the SHA-256 of the refresh token that it grew from, so
//! that a new one in the configuration wins over what is kept from the old.
//!
//! A file that others can read is not used: what stands in it may be known, or theirs.

use super::disk;
use crate::base::hex;
use crate::base::secret::Secret;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use zeroize::Zeroizing;

/// Reads the refresh token that grew from `first`; nothing where there is none.
///
/// # Errors
/// Says what is wrong with the file.
pub(super) fn read(path: &Path, first: &Secret) -> Result<Option<Secret>, String> {
    let fault = |error: std::io::Error| format!("{}: cannot be read ({})", path.display(), error.kind());
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fault(error)),
    };
    let metadata = file.metadata().map_err(fault)?;
    if !metadata.is_file() || metadata.permissions().mode() & 0o077 != 0 {
        return Err(format!(
            "{}: must be a file that only its owner can read; run chmod 600",
            path.display()
        ));
    }
    drop(file);
    let text = disk::read(path)?;
    let json: Value = serde_json::from_str(text.expose())
        .map_err(|_| format!("{}: is not of our making", path.display()))?;
    let word = |name: &str| json.get(name).and_then(Value::as_str);
    let is_ours = word("grew_from") == Some(&digest(first));
    Ok(word("refresh_token").filter(|_| is_ours).map(|token| Secret::new(token.to_owned())))
}

/// Keeps a refresh token that grew from `first`.
///
/// # Errors
/// Says why it could not be written.
pub(super) fn write(path: &Path, first: &Secret, token: &Secret) -> Result<(), String> {
    let text = Zeroizing::new(
        json!({"version": 1, "grew_from": digest(first), "refresh_token": token.expose()}).to_string(),
    );
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let put = || -> std::io::Result<()> {
        // Left over from a process of the same number: its mode may be anything.
        if let Err(error) = std::fs::remove_file(&beside)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    put().map_err(|error| format!("{}: cannot be written ({})", path.display(), error.kind()))
}

fn digest(secret: &Secret) -> String {
    hex::encode(&Sha256::digest(secret.expose()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[test]
    fn what_was_kept_is_read_again_until_the_configuration_changes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.json");
        assert_eq!(read(&path, &secret("first")), Ok(None), "not yet there");
        for token in ["second", "third"] {
            write(&path, &secret("first"), &secret(token)).unwrap();
            assert_eq!(read(&path, &secret("first")), Ok(Some(secret(token))));
        }
        assert_eq!(read(&path, &secret("another")), Ok(None), "a new login wins");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
        assert!(!std::fs::read_to_string(&path).unwrap().contains("first"));
    }

    #[test]
    fn a_file_that_others_can_read_or_that_is_something_else_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.json");
        std::fs::write(&path, "{}").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read(&path, &secret("first")).unwrap_err().contains("chmod 600"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read(&path, &secret("first")), Ok(None));
        std::fs::write(&path, "canary").unwrap();
        let why = read(&path, &secret("first")).unwrap_err();
        assert!(why.contains("not of our making") && !why.contains("canary"));
        assert!(write(&directory.path().join("no/such"), &secret("a"), &secret("b")).is_err());
    }
}
