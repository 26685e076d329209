//! What did the operator say, and is it sound?

pub mod plan;
