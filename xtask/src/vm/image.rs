//! Taking the kernel proper out of the compressed image that distributions ship.
//!
//! An emulated CPU needs seconds to decompress a kernel. QEMU can start an uncompressed one directly if that has the
//! PVH entry point, which is announced by an ELF note (`XEN_ELFNOTE_PHYS32_ENTRY`, `include/xen/interface/elfnote.h`).

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::packages::Unpacked;
use crate::process;

/// Debian's packages of the programs that decompress.
pub(super) const DECOMPRESSORS: &[&str] = &["xz-utils", "zstd"];

/// The packed kernel in an image, and the program that unpacks it.
#[derive(Debug, PartialEq, Eq)]
struct Payload<'a> {
    program: &'static str,
    content: &'a [u8],
}

/// Writes the form of `image` that boots fastest to `to`: the kernel proper if it can be started directly.
pub(super) fn unpack(image: &Path, to: &Path, decompressors: &Unpacked) -> Result<()> {
    let compressed = fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    if let Some(payload) = payload(&compressed) {
        let packed = image.with_added_extension("packed");
        fs::write(&packed, payload.content)?;
        let mut command = process::command(payload.program);
        command.envs(decompressors.environment()?).args(["--decompress", "--stdout"]).arg(&packed);
        let status = process::status(command.stdout(File::create(to)?))?;
        ensure!(status.success(), "cannot decompress {}", image.display());
        if starts_directly(&fs::read(to)?) {
            return Ok(());
        }
    }
    fs::copy(image, to)?;
    Ok(())
}

/// Finds the packed kernel by the image's header (`Documentation/arch/x86/boot.rst`); none if it is packed in a way
/// that we don't know.
fn payload(image: &[u8]) -> Option<Payload<'_>> {
    let number = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?) as usize);
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let setup_sectors = match image.get(0x1f1)? {
        0 => 4,
        &sectors => usize::from(sectors),
    };
    let start = (setup_sectors + 1) * 512 + number(0x248)?;
    let packed = image.get(start..start.checked_add(number(0x24c)?)?)?;
    let program = match packed {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "xz",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
        _ => return None,
    };
    // The kernel's build appends the unpacked size.
    let content = packed.get(..packed.len().checked_sub(4)?)?;
    Some(Payload { program, content })
}

/// Whether a kernel has the note with the PVH entry point: name "Xen", type 18, an address of four or eight bytes.
fn starts_directly(kernel: &[u8]) -> bool {
    let note = |size: u8| [&[4, 0, 0, 0, size, 0, 0, 0, 18, 0, 0, 0], b"Xen\0".as_slice()].concat();
    let notes = [note(4), note(8)];
    kernel.starts_with(b"\x7fELF") && kernel.windows(16).any(|window| notes.iter().any(|note| window == note))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image with one setup sector whose payload lies 8 bytes into the rest.
    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 1024 + 8];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248] = 8;
        image[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).expect("small").to_le_bytes());
        image.extend_from_slice(payload);
        image
    }

    #[test]
    fn the_payload_is_found_by_its_header() {
        let packed = b"\xfd7zXZ\0 the kernel\x01\x02\x03\x04";
        let expected = Payload { program: "xz", content: &packed[..packed.len() - 4] };
        assert_eq!(payload(&image(packed)), Some(expected));
        let packed = b"\x28\xb5\x2f\xfdxyz\x01\x02\x03\x04";
        assert_eq!(payload(&image(packed)).map(|payload| payload.program), Some("zstd"));
    }

    #[test]
    fn other_files_have_no_payload() {
        let unknown = image(b"\x1f\x8b\x08 gzip");
        let whole = image(b"\xfd7zXZ\0 the kernel\x01\x02\x03\x04");
        let cut = &whole[..whole.len() - 1];
        for image in [b"".as_slice(), &[0; 4096], &unknown, cut] {
            assert_eq!(payload(image), None);
        }
    }

    #[test]
    fn the_entry_point_is_told_by_its_note() {
        let note = b"\x04\0\0\0\x08\0\0\0\x12\0\0\0Xen\0\0\0\0\x01\0\0\0\0";
        let other = b"\x04\0\0\0\x08\0\0\0\x13\0\0\0Xen\0\0\0\0\x01\0\0\0\0";
        assert!(starts_directly(&[b"\x7fELF".as_slice(), b"abc", note].concat()));
        assert!(!starts_directly(&[b"\x7fELF".as_slice(), b"abc", other].concat()));
        assert!(!starts_directly(note));
    }
}
