//! Build, run and test the workspace, on this machine or in a test VM.

fn main() {}
