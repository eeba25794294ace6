//! Whether this director has what the checks and commands of a configuration need. What is missing is a warning and not
//! a fault: it may come later, and the services are better served without the check than not at all.

use std::{
    fs::File,
    io::{self, Read as _},
    net::{SocketAddr, UdpSocket},
    path::Path,
};

use nix::{
    net::if_::if_nametoindex,
    unistd::{AccessFlags, access},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use super::diagnostics::{FileContent, Need, Prerequisite, Warning, WarningKind};
use crate::model::HttpAuthorization;

/// The most of a file that is read; all authorities of a system take a quarter of it.
const MOST: u64 = 1 << 20;

/// A warning for each need that isn't met.
pub(super) fn warnings(needs: &[Need]) -> Vec<Warning> {
    let unmet = needs.iter().filter_map(|Need { prerequisite, place }| {
        let problem = problem(prerequisite)?;
        let (need, effect) = (prerequisite.to_string(), prerequisite.effect());
        Some(Warning { kind: WarningKind::Unmet { need, problem, effect }, place: place.clone() })
    });
    unmet.collect()
}

/// Why a prerequisite isn't met; `None`: it is.
fn problem(prerequisite: &Prerequisite) -> Option<String> {
    let met = match prerequisite {
        Prerequisite::File { path, content: FileContent::Any, .. } => {
            access(path, AccessFlags::R_OK).map_err(io::Error::from)
        }
        Prerequisite::File { path, content, .. } => file(path, *content),
        Prerequisite::OtherConfig(path) => file(path, FileContent::Any),
        Prerequisite::Program { path, .. } | Prerequisite::Command { path, .. } => program(path),
        // What the check itself will do.
        Prerequisite::Source(address) => UdpSocket::bind(SocketAddr::new(*address, 0)).map(drop),
        Prerequisite::Device(name) => if_nametoindex(name.as_str()).map(drop).map_err(io::Error::from),
    };
    met.err().map(|error| error.to_string())
}

fn file(path: &Path, content: FileContent) -> io::Result<()> {
    // Whoever opens a pipe waits for its other end.
    if !path.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is not a file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MOST).read_to_end(&mut bytes)?;
    contains(&bytes, content).map_err(|problem| io::Error::new(io::ErrorKind::InvalidData, problem))
}

/// Whether these bytes are what must be in a file; else what is wrong with them, without a word of what they are.
fn contains(bytes: &[u8], content: FileContent) -> Result<(), &'static str> {
    match content {
        FileContent::Certificate => certificate(bytes),
        FileContent::CertificateAndKey => certificate(bytes).and_then(|()| private_key(bytes)),
        FileContent::PrivateKey => private_key(bytes),
        FileContent::BasicAuthorization => HttpAuthorization::basic(bytes).map(drop),
        FileContent::BearerToken => HttpAuthorization::bearer(bytes).map(drop),
        FileContent::Any => Ok(()),
    }
}

fn certificate(pem: &[u8]) -> Result<(), &'static str> {
    let is_there = CertificateDer::pem_slice_iter(pem).any(|block| block.is_ok());
    is_there.then_some(()).ok_or("there is no certificate in it (PEM)")
}

fn private_key(pem: &[u8]) -> Result<(), &'static str> {
    PrivateKeyDer::from_pem_slice(pem).map(drop).map_err(|_| "there is no private key in it (PEM)")
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
        warnings_of_file(&format!(
            "[[service]]\naddress = \"192.0.2.1:80\"\nforward = \"masquerade\"\n{check}\n[[service.server]]\n\
             address = \"127.0.0.1\"\n"
        ))
    }

    /// The same about a file with this text.
    fn warnings_of_file(text: &str) -> Vec<(usize, usize, String)> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lvs");
        fs::write(&path, text).unwrap();
        let reading = read_file(&path, Strictness::Lenient).unwrap();
        let warnings = reading.warnings.iter();
        warnings.map(|warning| (warning.place.line, warning.place.column, warning.kind.to_string())).collect()
    }

    #[test]
    fn what_many_services_take_over_is_warned_of_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lvs.toml");
        let service = |port| {
            format!(
                "[[service]]\naddress = \"192.0.2.1:{port}\"\nforward = \"masquerade\"\n[[service.server]]\n\
                 address = \"127.0.0.1\"\n"
            )
        };
        let check =
            "[defaults]\ncheck = { type = \"https\", tls-ca = \"/nowhere/ca\", tls-cert = \"/nowhere/c\" }\n";
        fs::write(&path, check.to_owned() + &service(80) + &service(81) + &service(82)).unwrap();
        let reading = read_file(&path, Strictness::Lenient).unwrap();
        let places: Vec<_> = reading.warnings.iter().map(|one| (one.place.line, one.place.column)).collect();
        assert_eq!(places, [(2, 36), (2, 62)], "{:?}", reading.warnings);
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

    #[test]
    fn what_a_file_of_ldirectords_runs_and_isnt_there_is_warned_of_with_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("script").display().to_string();
        fs::write(&script, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o644)).unwrap();
        let check = "the check can't be made";
        // Line, what is wrong, and what comes of it.
        let global = [
            ("fallbackcommand=/bin/sh -c x".to_owned(), None),
            ("fallbackcommand=/nowhere/x start".to_owned(), Some((17, "No such file", "nothing is run"))),
            ("fallbackcommand=/nowhere/x && y".to_owned(), None),
            ("fallbackcommand=notify".to_owned(), None),
            (format!("callback=\"{script}\""), Some((10, "Permission denied", "nothing is run"))),
            ("execute=/nowhere.cf".to_owned(), Some((9, "No such file", "no other agent runs for it"))),
            (format!("execute={script}"), None),
        ];
        let of_service = [
            ("checktype=external\ncheckcommand=/bin/true", None),
            ("checktype=external\ncheckcommand=/nowhere/x", Some((18, "No such file", check))),
            ("checktype=external\ncheckcommand=\"/bin\"", Some((18, "this is a directory", check))),
            ("checktype=external-perl\ncheckcommand=/nowhere/x", Some((18, "No such file", check))),
            ("checktype=connect\ncheckcommand=/nowhere/x", None),
            ("service=http\nfallbackcommand=\"/nowhere/x\"", Some((21, "No such file", "nothing is run"))),
        ];
        let service = "virtual=192.0.2.1:80\n    real=127.0.0.1 masq\n    real=127.0.0.2 masq\n";
        let global = global.map(|(line, expected)| (1, format!("{line}\n{service}"), expected));
        let of_service = of_service.map(|(lines, expected)| {
            let lines = format!("    {}\n", lines.replace('\n', "\n    "));
            (5, format!("{service}{lines}"), expected)
        });
        for (line, text, expected) in global.into_iter().chain(of_service) {
            let found = warnings_of_file(&text);
            match (&found[..], expected) {
                ([], None) => {}
                ([(at, column, said)], Some((wanted, words, effect))) => {
                    assert_eq!((*at, *column), (line, wanted), "{text}: {said}");
                    assert!(said.contains(words) && said.contains(effect), "{text}: {said}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
