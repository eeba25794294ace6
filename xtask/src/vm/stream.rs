//! Where the command's output ends in what comes from a port of the VM.

/// Cuts a stream at a mark that may arrive in pieces.
#[derive(Debug)]
pub(super) struct UntilMark {
    mark: Vec<u8>,
    /// What may be the mark's beginning.
    held: Vec<u8>,
}

impl UntilMark {
    /// `mark` must not be empty, and must not occur in the stream but at its end.
    pub(super) fn new(mark: &str) -> Self {
        Self { mark: mark.as_bytes().to_vec(), held: Vec::new() }
    }

    /// Takes the next piece of the stream; returns what is certainly output, and whether the mark was reached.
    pub(super) fn push(&mut self, piece: &[u8]) -> (Vec<u8>, bool) {
        let mut output = std::mem::take(&mut self.held);
        output.extend_from_slice(piece);
        if let Some(end) = output.windows(self.mark.len()).position(|window| window == self.mark) {
            output.truncate(end);
            return (output, true);
        }
        let longest = self.mark.len().min(output.len());
        let begun = (1..=longest).rev().find(|&length| output.ends_with(&self.mark[..length])).unwrap_or(0);
        self.held = output.split_off(output.len() - begun);
        (output, false)
    }

    /// What is left when the stream ends without the mark.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a reader gets of a stream that arrives in pieces of these sizes.
    fn read(stream: &[u8], mark: &str, sizes: &[usize]) -> (Vec<u8>, bool) {
        let mut until = UntilMark::new(mark);
        let mut output = Vec::new();
        let mut rest = stream;
        let mut sizes = sizes.iter().copied().cycle();
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(sizes.next().unwrap_or(1).clamp(1, rest.len()));
            rest = later;
            let (more, done) = until.push(piece);
            output.extend(more);
            if done {
                return (output, true);
            }
        }
        output.extend(until.rest());
        (output, false)
    }

    proptest! {
        #[test]
        fn cut_at_the_mark_however_it_arrives(
            text in "[~e a]{0,40}",
            after in "[~e]{0,5}",
            sizes in prop::collection::vec(1_usize..9, 1..5),
        ) {
            let mark = "~~ee!";
            let stream = format!("{text}{mark}{after}");
            prop_assert_eq!(read(stream.as_bytes(), mark, &sizes), (text.clone().into_bytes(), true));
            prop_assert_eq!(read(text.as_bytes(), mark, &sizes), (text.into_bytes(), false));
        }
    }

    #[test]
    fn nothing_is_held_back_without_need() {
        let mut until = UntilMark::new("~end~");
        assert_eq!(until.push(b"a line\n"), (b"a line\n".to_vec(), false));
        assert_eq!(until.push(b"x~en"), (b"x".to_vec(), false));
        assert_eq!(until.push(b"d"), (b"".to_vec(), false));
        assert_eq!(until.push(b"."), (b"~end.".to_vec(), false));
    }
}
