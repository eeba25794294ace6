//! Whether this director has what the checks of a configuration need. What is missing is a warning and not a fault: it
//! may come later, and the services are better served without the check than not at all.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    path::Path,
};

use nix::{
    net::if_::if_nametoindex,
    unistd::{AccessFlags, access},
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use super::diagnostics::{Need, Prerequisite, Warning, WarningKind};

/// A warning for each need that isn't met.
pub(super) fn warnings(needs: &[Need]) -> Vec<Warning> {
    let unmet = needs.iter().filter_map(|Need { prerequisite, place }| {
        let problem = problem(prerequisite)?;
        let (need, problem) = (prerequisite.to_string(), problem.to_string());
        Some(Warning { kind: WarningKind::Unmet { need, problem }, place: place.clone() })
    });
    unmet.collect()
}

/// Why a prerequisite isn't met; `None`: it is.
fn problem(prerequisite: &Prerequisite) -> Option<io::Error> {
    let met = match prerequisite {
        Prerequisite::Certificates { path, .. } => certificates(path),
        Prerequisite::Program(path) => program(path),
        Prerequisite::WeightFile(path) => access(path, AccessFlags::R_OK).map_err(io::Error::from),
        // What the check itself will do.
        Prerequisite::Source(address) => UdpSocket::bind(SocketAddr::new(*address, 0)).map(drop),
        Prerequisite::Device(name) => if_nametoindex(name.as_str()).map(drop).map_err(io::Error::from),
    };
    met.err()
}

fn certificates(path: &Path) -> io::Result<()> {
    // Whoever opens a pipe waits for its other end.
    if !path.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is not a file"));
    }
    let mut blocks = CertificateDer::pem_file_iter(path).map_err(io::Error::other)?;
    let none = || io::Error::new(io::ErrorKind::InvalidData, "there is no certificate in it (PEM)");
    blocks.any(|block| block.is_ok()).then_some(()).ok_or_else(none)
}

fn program(path: &Path) -> io::Result<()> {
    if path.metadata()?.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "this is a directory"));
    }
    access(path, AccessFlags::X_OK).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use crate::config::{Strictness, read_file};

    /// Line, column and text of each warning about a file with this check.
    fn warnings(check: &str) -> Vec<(usize, usize, String)> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lvs.toml");
        let text = format!(
            "[[service]]\naddress = \"192.0.2.1:80\"\nforward = \"masquerade\"\n{check}\n[[service.server]]\n\
             address = \"127.0.0.1\"\n"
        );
        fs::write(&path, text).unwrap();
        let reading = read_file(&path, Strictness::Lenient).unwrap();
        let warnings = reading.warnings.iter();
        warnings.map(|warning| (warning.place.line, warning.place.column, warning.kind.to_string())).collect()
    }

    #[test]
    fn what_a_check_needs_and_isnt_there_is_warned_of_with_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        fs::write(path("empty"), "nothing").unwrap();
        fs::write(path("weight"), "1").unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap();
        fs::write(path("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(path("script"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(path("script"), fs::Permissions::from_mode(0o644)).unwrap();
        let tls = |file: &str| format!("check = {{ type = \"https\", tls-ca = \"{}\" }}", path(file));
        let command = |file: &str| format!("check = {{ type = \"command\", command = [\"{file}\"] }}");
        let file = |file: &str| format!("check = {{ type = \"file\", file = \"{}\" }}", path(file));
        let via = |key: &str| format!("check = {{ type = \"connect\", {key} }}");
        let cases = [
            (tls("ca.pem"), None),
            (tls("none.pem"), Some((36, "No such file"))),
            (tls("empty"), Some((36, "there is no certificate in it"))),
            (tls("."), Some((36, "this is not a file"))),
            (command("/bin/sh"), None),
            (command("/nowhere/check"), Some((39, "No such file"))),
            (command(&path("script")), Some((39, "Permission denied"))),
            (command("/bin"), Some((39, "this is a directory"))),
            (file("weight"), None),
            (file("none"), Some((33, "No such file"))),
            (via("source = \"127.0.0.1\""), None),
            (via("source = \"192.0.2.99\""), Some((38, "Cannot assign"))),
            (via("device = \"lo\""), None),
            (via("device = \"nodev\""), Some((38, "No such device"))),
        ];
        for (check, expected) in cases {
            let found = warnings(&check);
            match (&found[..], expected) {
                ([], None) => {}
                ([(4, column, said)], Some((wanted, words))) => {
                    assert_eq!(*column, wanted, "{check}: {said}");
                    assert!(said.contains(words), "{check}: {said}");
                }
                other => panic!("{check}: {other:?}"),
            }
        }
    }
}
