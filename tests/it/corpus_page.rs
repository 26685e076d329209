//! Is `docs/corpus.md` what was measured?
//!
//! Two tests write a part of the page each, between its two marks: `UPDATE_GOLDEN=1` writes it
//! anew, else it must be what the page has.

use std::fs::{self, File};
use std::path::Path;

/// Writes a part of the page, or compares with it.
pub fn write(part: &str, text: &str) {
    println!("{text}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/corpus.md");
    // Tests run in processes of their own, and both may write.
    let lock = File::create(Path::new(env!("CARGO_TARGET_TMPDIR")).join("corpus-page.lock")).unwrap();
    lock.lock().unwrap();
    let page = fs::read_to_string(&path).unwrap();
    let begin = format!("<!-- written by a test: {part} -->\n");
    let end = format!("<!-- end of {part} -->\n");
    let (before, rest) = page.split_once(&begin).unwrap();
    let (_, after) = rest.split_once(&end).unwrap();
    let want = format!("{before}{begin}{text}{end}{after}");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, want).unwrap();
        return;
    }
    assert!(page == want, "docs/corpus.md is not what was measured; UPDATE_GOLDEN=1 writes it");
}
