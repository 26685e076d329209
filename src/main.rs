//! Arguments, plan or its faults, run. The only file that may end the process.

fn main() {}
