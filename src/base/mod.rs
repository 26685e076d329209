//! Words that several rooms share: time as data, identities, secrets, the closed enums.
//!
//! Nothing here decides anything. A type moves in only when two rooms on different floors need
//! to say the same thing; a word that one room uses stays in that room.

pub mod api;
pub mod hex;
pub mod ids;
pub mod outcome;
pub mod percent;
pub mod reach;
pub mod secret;
pub mod time;
pub mod units;
