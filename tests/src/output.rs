//! What is printed for people.

use std::process::ExitCode;

/// Prints what went wrong, where no error can be returned.
#[expect(clippy::print_stderr, reason = "destructors have nobody to return an error to")]
pub fn warn(message: &str) {
    eprintln!("lab: {message}");
}

/// The exit code of a measurement: whether what was measured is as it must be. An error is printed.
#[must_use]
pub fn exit_code(measured: anyhow::Result<bool>) -> ExitCode {
    match measured {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            warn(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints a result for the reader of a test's output.
#[expect(clippy::print_stdout, reason = "what a test has measured is its output")]
pub fn say(text: &str) {
    println!("{text}");
}
