//! Showing output while keeping it.

use std::io::{self, Read, Write};

/// Writes to a stream and remembers what it wrote.
pub(crate) struct Tee<W> {
    to: W,
    kept: Vec<u8>,
}

impl<W: Write> Tee<W> {
    pub(crate) fn new(to: W) -> Self {
        Self { to, kept: Vec::new() }
    }

    /// Writes all that a reader gives.
    pub(crate) fn copy_from(&mut self, from: &mut impl Read) -> io::Result<()> {
        let mut buffer = [0; 8192];
        loop {
            match from.read(&mut buffer)? {
                0 => return Ok(()),
                length => {
                    self.write_all(&buffer[..length])?;
                    self.flush()?;
                }
            }
        }
    }

    /// What was written, as text.
    pub(crate) fn into_text(self) -> String {
        String::from_utf8_lossy(&self.kept).into_owned()
    }
}

impl<W: Write> Write for Tee<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.to.write(bytes)?;
        self.kept.extend_from_slice(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_get_all() {
        let mut shown = Vec::new();
        let mut tee = Tee::new(&mut shown);
        tee.write_all(b"one ").expect("memory takes it");
        tee.copy_from(&mut b"two".as_slice()).expect("memory takes it");
        assert_eq!(tee.into_text(), "one two");
        assert_eq!(shown, b"one two");
    }
}
