//! A program on a terminal of its own, whose keys a test presses.

use std::{
    fs::File,
    io::{ErrorKind, Read as _, Write as _},
    process::{Child, Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    libc::EIO,
    pty::{Winsize, openpty},
};

use crate::lab::wait;

/// The terminal's size: what a terminal has at least.
const SIZE: Winsize = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };

/// A program that has a terminal for its standard input and outputs. It is killed when this is dropped.
#[derive(Debug)]
pub struct OnTerminal {
    child: Child,
    terminal: File,
    /// All that it has written, its orders to the terminal included.
    written: String,
}

impl OnTerminal {
    /// Starts the program.
    pub fn spawn(mut command: Command) -> Result<Self> {
        let pair = openpty(&SIZE, None).context("making a terminal")?;
        fcntl(&pair.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("reading without waiting")?;
        let side = || pair.slave.try_clone().context("the terminal's other side");
        command.stdin(side()?).stdout(side()?).stderr(side()?).env("TERM", "xterm");
        let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        Ok(Self { child, terminal: pair.master.into(), written: String::new() })
    }

    /// Presses keys, each as the character that it sends.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        self.terminal.write_all(keys.as_bytes()).context("pressing keys")
    }

    /// Waits until the program has written `text`.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<()> {
        let waited = wait::until_true(&format!("{text:?} on the terminal"), limit, || {
            self.read()?;
            Ok(self.written.contains(text))
        });
        waited.with_context(|| format!("it has written {:?}", self.written))
    }

    /// Waits until the program has ended. Returns its end, and all that it has written.
    pub fn wait_for_end(mut self, limit: Duration) -> Result<(ExitStatus, String)> {
        let status = wait::until("the end of the program", limit, || {
            // A program whose terminal is full can't end.
            self.read()?;
            Ok(self.child.try_wait()?)
        })?;
        self.read()?;
        Ok((status, std::mem::take(&mut self.written)))
    }

    /// Reads what it has written so far, and forgets it.
    pub fn drain(&mut self) -> Result<()> {
        self.read()?;
        self.written.clear();
        Ok(())
    }

    fn read(&mut self) -> Result<()> {
        let mut bytes = [0; 4096];
        loop {
            match self.terminal.read(&mut bytes) {
                Ok(0) => return Ok(()),
                Ok(length) => {
                    let new = bytes.get(..length).unwrap_or_default();
                    self.written += &String::from_utf8_lossy(new);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // Nobody has the other side any more.
                Err(error) if error.raw_os_error() == Some(EIO) => return Ok(()),
                Err(error) => return Err(error).context("reading the terminal"),
            }
        }
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
