//! Writing an initial RAM file system: a cpio archive in the "newc" format that the kernel unpacks at boot.
//!
//! The format is described in the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`.

/// Bits of a file's mode that say what it is (`stat(2)`).
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

/// The name of the entry that ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// An archive that grows by one entry at a time. Directories come before what is in them.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a directory. `path` is without the leading slash here and below.
    pub(crate) fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY | 0o755, 2, &[]);
    }

    /// Adds a program.
    pub(crate) fn program(&mut self, path: &str, content: &[u8]) {
        self.entry(path, REGULAR | 0o755, 1, content);
    }

    /// Adds a plain file.
    pub(crate) fn file(&mut self, path: &str, content: &[u8]) {
        self.entry(path, REGULAR | 0o644, 1, content);
    }

    /// Adds a symbolic link.
    pub(crate) fn symlink(&mut self, path: &str, target: &str) {
        self.entry(path, SYMLINK | 0o777, 1, target.as_bytes());
    }

    /// The finished archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry(TRAILER, 0, 1, &[]);
        self.bytes
    }

    /// A header of 13 hexadecimal fields, the name with a zero byte, the content; the last two padded to four bytes.
    fn entry(&mut self, path: &str, mode: u32, links: u32, content: &[u8]) {
        self.entries += 1;
        let inode = if path == TRAILER { 0 } else { self.entries };
        let size = length(content);
        let name = length(path.as_bytes()) + 1;
        let (owner, group, modified, device, check) = (0, 0, 0, 0, 0);
        let fields =
            [inode, mode, owner, group, links, modified, size, device, device, device, device, name, check];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// The format has 32 bits for a length; what goes into a boot archive is far below that.
fn length(content: &[u8]) -> u32 {
    u32::try_from(content.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An entry as a reader sees it: name, mode, content.
    type Entry = (String, u32, Vec<u8>);

    /// Reads an archive by the format's description, not by the writer's code.
    fn read(archive: &[u8]) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut at = 0;
        loop {
            assert_eq!(&archive[at..at + 6], b"070701", "magic at {at}");
            let field = |index: usize| {
                let from = at + 6 + 8 * index;
                let digits = std::str::from_utf8(&archive[from..from + 8]).expect("ASCII");
                usize::from_str_radix(digits, 16).expect("hexadecimal")
            };
            let (mode, size, name_size) = (field(1), field(6), field(11));
            let name_at = at + 110;
            let name = &archive[name_at..name_at + name_size];
            assert_eq!(name.last(), Some(&0));
            let name = String::from_utf8(name[..name_size - 1].to_vec()).expect("UTF-8");
            let content_at = (name_at + name_size).next_multiple_of(4);
            let content = archive[content_at..content_at + size].to_vec();
            at = (content_at + size).next_multiple_of(4);
            if name == "TRAILER!!!" {
                assert_eq!(at, archive.len(), "nothing after the trailer");
                return entries;
            }
            entries.push((name, u32::try_from(mode).expect("32 bits"), content));
        }
    }

    #[test]
    fn one_file_byte_by_byte() {
        let mut archive = Archive::default();
        archive.file("ab", b"hello");
        let bytes = archive.finish();
        let header = "070701\
            00000001000081A40000000000000000000000010000000000000005\
            0000000000000000000000000000000000000003\
            00000000ab\0";
        let mut expected = header.as_bytes().to_vec();
        expected.resize(expected.len().next_multiple_of(4), 0);
        expected.extend_from_slice(b"hello\0\0\0");
        assert_eq!(&bytes[..expected.len()], expected);
    }

    #[test]
    fn kinds_have_their_modes() {
        let mut archive = Archive::default();
        archive.directory("d");
        archive.program("d/p", b"#!");
        archive.symlink("d/l", "p");
        let expected = [
            ("d".into(), 0o040_755, vec![]),
            ("d/p".into(), 0o100_755, b"#!".to_vec()),
            ("d/l".into(), 0o120_777, b"p".to_vec()),
        ];
        assert_eq!(read(&archive.finish()), expected);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            files in prop::collection::vec(("[a-z/]{1,20}", prop::collection::vec(any::<u8>(), 0..50)), 0..8),
        ) {
            let mut archive = Archive::default();
            for (name, content) in &files {
                archive.file(name, content);
            }
            let expected: Vec<Entry> =
                files.into_iter().map(|(name, content)| (name, 0o100_644, content)).collect();
            prop_assert_eq!(read(&archive.finish()), expected);
        }
    }
}
