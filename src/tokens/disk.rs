//! What does a file hold that the platform renews?
//!
//! Tokens of workload identities and AWS's shared files are read each time that they are needed. As
//! with every secret in a file: a regular one (a pipe would hang the fetch), at most 64 KiB, text;
//! faults name the path and nothing of the content. Reading is put on a thread that may wait.

use super::fetch::TokenFault;
use crate::base::secret::Secret;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use zeroize::Zeroizing;

/// Longest file that is read.
const FILE_MAX: u64 = 64 << 10;

/// Reads a text; blanks at its ends are left out.
pub(super) fn read(path: &Path) -> Result<Secret, String> {
    let fault = |error: std::io::Error| format!("file {}: cannot be read ({})", path.display(), error.kind());
    // Looked at before it is opened: opening a pipe without a writer would wait for ever.
    if !std::fs::metadata(path).map_err(fault)?.is_file() {
        return Err(format!("file {}: is not a regular file", path.display()));
    }
    let mut text = Zeroizing::new(String::new());
    File::open(path).map_err(fault)?.take(FILE_MAX + 1).read_to_string(&mut text).map_err(fault)?;
    if text.len() as u64 > FILE_MAX {
        return Err(format!("file {}: is longer than 64 KiB", path.display()));
    }
    Ok(Secret::new(text.trim().to_owned()))
}

/// Does work that may wait for a disk.
pub(super) async fn wait_for<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, TokenFault> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(TokenFault::File),
        Err(_) => Err(TokenFault::Pending),
    }
}
