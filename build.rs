//! Which functions of the program lie beside each other?
//!
//! The program is 13 MB of code, of which a start runs through 2 MB and a call through 1 MB. Left to
//! the compiler they are strewn over all of it, and since the kernel maps 64 KiB around each page that
//! is touched, a process at rest holds 7 MB of code it will not run again, and a call walks through
//! hundreds of pages. `packaging/layout/functions.ld` names the functions of a call and of a start, and
//! the linker puts them together; `scripts/layout` writes it from a run of the program. (Chromium and
//! Firefox link by such a list too, and call it an order file.)
//!
//! The list speaks of functions as they are with the profile of `scripts/rustc`, and is written after it.
//! Names that are no longer there cost nothing, and functions that are new lie with the rest. GNU ld
//! and LLD read the list. `POINTSMAN_LAYOUT=off` links without it, for a linker that does not.

use std::env;

const LIST: &str = "packaging/layout/functions.ld";
/// Read by the compiler itself; cargo would not see that it is another.
const PROFILE: &str = "packaging/profile/pointsman.profdata";

fn main() {
    println!("cargo:rerun-if-changed={LIST}");
    println!("cargo:rerun-if-changed={PROFILE}");
    println!("cargo:rerun-if-env-changed=POINTSMAN_LAYOUT");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|said| said == value);
    let is_read = is("CARGO_CFG_TARGET_OS", "linux") && !is("POINTSMAN_LAYOUT", "off");
    if is_read && is("PROFILE", "release") {
        // Cargo links in this folder. A whole path would be kept in `target`, and be wrong in a checkout that
        // was moved.
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{LIST}");
    }
}
